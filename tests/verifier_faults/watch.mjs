// Does the same as watch.py, with the verifier for JavaScript.

import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'

const { VERIFIER, ISSUER, CLIENT_ID, CLIENT_SECRET, URL, MAX_STALENESS } = process.env
const { TokenRevoked, Verifier } = await import(pathToFileURL(VERIFIER))

const verifier = new Verifier({
  issuer: ISSUER,
  audience: 'orders',
  clientId: CLIENT_ID,
  clientSecret: CLIENT_SECRET,
  url: URL,
  maxStaleness: Number(MAX_STALENESS),
})
const watched = new Map()
const monotonic = () => Number(process.hrtime.bigint()) / 1e9
const report = (fields) => console.log(JSON.stringify(fields))

async function verifyOnce(name, state) {
  const beganAt = monotonic()
  try {
    await verifier.verify(state.token)
    state.accepted_at = beganAt
    if (!state.seen) report({ token: name, event: 'accepted' })
    state.seen = true
  } catch (error) {
    if (error instanceof TokenRevoked) {
      watched.delete(name)
      report({ token: name, event: 'revoked', at: monotonic(), last: state.accepted_at })
    } else {
      state.refused++
    }
  }
}

await verifier.waitUntilReady(30)
report({ event: 'ready' })
createInterface({ input: process.stdin }).on('line', (line) => {
  const [name, token] = line.split(' ')
  if (name !== 'status') {
    watched.set(name, { token, seen: false, accepted_at: 0, refused: 0 })
    return
  }
  const now = monotonic()
  const states = [...watched].map(([key, { accepted_at: acceptedAt, refused }]) => [
    key,
    { age: now - acceptedAt, refused },
  ])
  report({ event: 'status', counters: verifier.counters, tokens: Object.fromEntries(states) })
}).on('close', () => process.exit())
for (;;) {
  for (const [name, state] of watched) await verifyOnce(name, state)
  await delay(1)
}
