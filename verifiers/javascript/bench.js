/**
 * Compares the verifier with jose alone, and measures the memory for a million revocations:
 * `node --expose-gc bench.js`.
 */

import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'

import { importJWK, jwtVerify } from 'jose'

import { systemClock } from './src/clock.js'
import { parseReply } from './src/feed.js'
import { Receiver } from './src/receiver.js'
import { AUDIENCE, ISSUER, ScriptedService } from './test/scripted_service.js'

const ROUNDS = 30
const CALLS = 500

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]

/** Returns the time for a call, in microseconds. */
async function processorTime(call) {
  const begin = process.cpuUsage()
  for (let count = 0; count < CALLS; count++) await call()
  const { user, system } = process.cpuUsage(begin)
  return (user + system) / CALLS
}

async function compare() {
  const service = await ScriptedService.start()
  service.boundMs = 5000
  const verifier = service.newVerifier({ maxStaleness: 10 })
  await verifier.waitUntilReady(10)
  const token = await service.issue()
  const key = await importJWK((await service.jwks()).keys[0], 'ES256')
  const options = { issuer: ISSUER, audience: AUDIENCE, algorithms: ['ES256'], typ: 'at+jwt' }
  const calls = {
    jose: () => jwtVerify(token, key, options),
    verifier: () => verifier.verify(token, 'orders:read'),
  }
  // In turns, so that both meet the same load of the machine. The first rounds warm up.
  const times = { jose: [], verifier: [] }
  for (let round = 0; round < 2 * ROUNDS; round++) {
    for (const [name, call] of Object.entries(calls)) {
      const time = await processorTime(call)
      if (round >= ROUNDS) times[name].push(time)
    }
  }
  for (const [name, values] of Object.entries(times)) {
    console.log(name.padEnd(9), `${Math.min(...values).toFixed(1)} µs, median ${median(values).toFixed(1)} µs`)
  }
  const ratios = times.verifier.map((ours, round) => ours / times.jose[round])
  console.log('ratio    ', median(ratios).toFixed(3))
  await service.stop()
}

/** Applies a complete reply. Returns the processor time and the longest delay of a timer, in ms. */
async function fill(receiver, count) {
  const now = Math.floor(Date.now() / 1000)
  const revoked = Array.from({ length: count }, (_, number) => [randomUUID(), now + (number % 3600)])
  const request = receiver.request(1)
  const { nonce } = request
  const fields = { nonce, cursor: '1', age_ms: 0, now, bound_ms: 5000, complete: true, revoked }
  const pieces = JSON.stringify(fields).match(/.{1,65536}/g)
  let last = performance.now()
  let delay = 0
  const timer = setInterval(() => {
    delay = Math.max(delay, performance.now() - last - 1)
    last = performance.now()
  }, 1)
  const begin = process.cpuUsage()
  await receiver.apply(request, parseReply(pieces))
  const time = process.cpuUsage(begin).user / 1000
  clearInterval(timer)
  return { time, delay }
}

/** Returns the memory in use, in megabytes. */
async function used() {
  await delay(100)
  gc()
  return process.memoryUsage().heapUsed / 1e6
}

async function measureMemory() {
  let receiver = new Receiver(10, 5, systemClock)
  const { time, delay } = await fill(receiver, 1_000_000)
  await used()
  const full = await used()
  // Keeps it until here.
  console.log(`${receiver.size} revocations at once: ${time.toFixed(0)} ms of processor time`)
  console.log(`longest delay of other work meanwhile: ${delay.toFixed(0)} ms`)
  receiver = undefined
  await used()
  console.log(`a million revocations: ${(full - (await used())).toFixed(0)} MB`)
}

await compare()
await measureMemory()
