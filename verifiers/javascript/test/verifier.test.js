import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'

import express from 'express'
import fastify from 'fastify'

import { requireToken as expressToken } from '../src/express.js'
import { requireToken as fastifyToken } from '../src/fastify.js'
import { Follower } from '../src/follower.js'
import { Service } from '../src/http.js'
import { PermissionMissing, TokenInvalid, TokenRevoked, Unavailable } from '../src/index.js'
import { Receiver } from '../src/receiver.js'
import { ScriptedService, answer, cut, eventually, refuse, repeatFirstReply, stall, trickle } from './scripted_service.js'

let service
beforeEach(async () => (service = await ScriptedService.start()))
afterEach(() => service.stop())

async function readyVerifier(settings) {
  const verifier = service.newVerifier(settings)
  await verifier.waitUntilReady(10)
  return verifier
}

const isAccepted = (verifier, token) => verifier.verify(token).then(() => true, () => false)

const isRefused = (verifier, token, reason) =>
  verifier.verify(token).then(() => false, (error) => error.constructor === reason)

test('good token returns its claims', async () => {
  const verifier = await readyVerifier()
  const claims = await verifier.verify(await service.issue({ sub: 'user-7' }), 'orders:read')
  assert.equal(claims.sub, 'user-7')
  assert(verifier.staleness < 1)
  assert.equal(verifier.counters.accepted, 1)
})

for (const id of ['token-1', 'session-1', 'key-1']) {
  test(`revoked id refuses token: ${id}`, async () => {
    const verifier = await readyVerifier()
    const token = await service.issue()
    await verifier.verify(token)
    service.revoke(id)
    await eventually(() => isRefused(verifier, token, TokenRevoked))
  })
}

test('missing permission is not a bad token', async () => {
  const verifier = await readyVerifier()
  const token = await service.issue()
  await assert.rejects(verifier.verify(token, 'orders:read', 'orders:write'), PermissionMissing)
})

test('nothing is accepted before the first read', async () => {
  service.faults['/revocations'] = refuse(503)
  const verifier = service.newVerifier()
  await assert.rejects(verifier.waitUntilReady(0.3), /503/)
  await assert.rejects(verifier.verify(await service.issue()), Unavailable)
  service.faults = {}
  await verifier.waitUntilReady(10)
  await verifier.verify(await service.issue())
})

test('first verification starts to follow and waits for the first read', async () => {
  const verifier = service.newVerifier()
  assert.equal(verifier.staleness, Infinity)
  await verifier.verify(await service.issue())
})

// Each wait takes two seconds.
test('first read that trickles in is waited for once', { timeout: 30_000 }, async () => {
  service.faults['/revocations'] = trickle
  const verifier = service.newVerifier()
  for (let i = 0; i < 20; i++) await assert.rejects(verifier.verify(await service.issue()), Unavailable)
})

const FAULTS = {
  503: () => refuse(503, { 'Retry-After': '1' }),
  401: () => refuse(401),
  'a cut': () => cut,
  'a stalled network': () => stall,
  'a cache': () => repeatFirstReply(service),
}
for (const [name, fault] of Object.entries(FAULTS)) {
  test(`broken feed refuses beyond the bound: ${name}`, async () => {
    const verifier = await readyVerifier()
    const token = await service.issue()
    await verifier.verify(token)
    service.faults['/revocations'] = fault()
    await eventually(() => isRefused(verifier, token, Unavailable))
    assert(verifier.staleness > 1)
    service.faults = {}
    await eventually(() => isAccepted(verifier, token))
  })
}

test('redirect is not followed', async () => {
  service.faults['/revocations'] = refuse(307, { Location: `${service.url}/elsewhere` })
  await assert.rejects(service.newVerifier().waitUntilReady(0.3), /307/)
  assert(service.requests.every(({ path }) => path !== '/elsewhere'))
})

test('credentials go with the feed alone', async () => {
  const verifier = await readyVerifier()
  await verifier.verify(await service.issue())
  const basic = `Basic ${Buffer.from('orders:secret').toString('base64')}`
  for (const { path, headers } of service.requests) {
    assert.equal(headers.authorization, path === '/revocations' ? basic : undefined)
  }
})

test('requests share connections', async () => {
  await readyVerifier()
  await eventually(() => service.requests.length >= 8)
  // `fetch` opens a second one where the first has just been used.
  assert(service.connections <= 2)
})

test('bound below that of the service is refused', async () => {
  service.boundMs = 600
  await assert.rejects(service.newVerifier().waitUntilReady(0.3), /at least 1.2 s/)
})

test('introspection answers beyond the bound', async () => {
  const verifier = await readyVerifier({ introspect: true })
  const token = await service.issue()
  service.faults['/revocations'] = refuse(503)
  await eventually(() => verifier.staleness > 1)
  await verifier.verify(token)
  assert.equal(verifier.counters.introspections, 1)
  service.active = false
  await assert.rejects(verifier.verify(token), TokenRevoked)
  service.faults['/oauth/introspect'] = refuse(503)
  await assert.rejects(verifier.verify(token), Unavailable)
})

test('introspection that comes too late proves nothing', async () => {
  const verifier = await readyVerifier({ introspect: true })
  const token = await service.issue()
  service.faults['/revocations'] = refuse(503)
  await eventually(() => verifier.staleness > 1)
  // Longer than what the bound of the service leaves of that of the verifier.
  service.faults['/oauth/introspect'] = (response) =>
    setTimeout(() => answer(response, { active: true, jti: 'token-1' }), 600)
  await assert.rejects(verifier.verify(token), /too late/)
})

test('reply that trickles in is given up', async () => {
  service.faults['/slow'] = trickle
  const connection = new Service(service.url, 'orders', 'secret')
  await assert.rejects(connection.request('/slow', { timeout: 0.3 }), /has not answered in time/)
})

test('introspection that trickles in is given up', { timeout: 30_000 }, async () => {
  const verifier = service.newVerifier({ introspect: true })
  service.faults['/revocations'] = refuse(503)
  service.faults['/oauth/introspect'] = trickle
  await assert.rejects(verifier.verify(await service.issue()), /has not answered in time/)
})

test('keys are read again before their age is reached', async () => {
  service.maxAge = 1
  const verifier = await readyVerifier()
  await service.addKey('key-2')
  await eventually(() => verifier.counters.keyReads >= 2)
  await verifier.verify(await service.issue({}, 'key-2'))
  service.faults['/.well-known/jwks.json'] = refuse(503)
  // The feed alone does not suffice: the revocation of a key is forgotten some time.
  await eventually(async () => isRefused(verifier, await service.issue(), Unavailable))
})

test('unknown key is read once in a while', async () => {
  const verifier = await readyVerifier()
  await service.addKey('key-2')
  await verifier.verify(await service.issue({}, 'key-2'))
  await service.addKey('key-3')
  const { keyReads } = verifier.counters
  for (let round = 0; round < 20; round++) {
    await assert.rejects(verifier.verify(await service.issue({}, 'key-3')), TokenInvalid)
  }
  assert.equal(verifier.counters.keyReads, keyReads)
})

for (const leeway of [-1, 61, NaN]) {
  test(`leeway beyond the life of a revocation is refused: ${leeway}`, () => {
    assert.throws(() => service.newVerifier({ leeway }), /from 0 to 60 s/)
  })
}

test('feed goes on while the keys cannot be read', async () => {
  service.maxAge = 4
  const verifier = await readyVerifier()
  service.faults['/.well-known/jwks.json'] = refuse(503)
  const token = await service.issue()
  // After half of their life.
  await eventually(() => verifier.counters.failures >= 2)
  await verifier.verify(token)
  service.revoke('token-1')
  await eventually(() => isRefused(verifier, token, TokenRevoked))
})

test('slow read for an unknown key is not repeated', async () => {
  let now = 0
  const clock = () => ({ monotonic: now, wall: now })
  service.faults['/.well-known/jwks.json'] = (response) => {
    now += 6
    refuse(503)(response)
  }
  const connection = new Service(service.url, 'orders', 'secret')
  const follower = new Follower(connection, new Receiver(1, 5, clock), clock, 1, undefined, () => {})
  await assert.rejects(follower.readKeysAgain(), /503/)
  await assert.rejects(follower.readKeysAgain(), /503/)
  assert.equal(service.requests.length, 1)
})

test('close ends a request that waits', async () => {
  const verifier = await readyVerifier()
  const { length } = service.requests
  service.faults['/revocations'] = stall
  await eventually(() => service.requests.length > length)
  await verifier.close()
})

for (const url of ['http://auth.example.com', 'ftp://127.0.0.1', 'http://127.evil.example']) {
  test(`plain HTTP is refused except on loopback: ${url}`, () => {
    assert.throws(() => new Service(url, 'orders', 'secret'), /https/)
  })
}

async function listenExpress(verifier) {
  const app = express()
  app.get('/orders', expressToken(verifier, 'orders:read'), (request, response) => {
    response.send(request.claims.sub)
  })
  const server = await new Promise((resolve) => {
    const server = app.listen(0, '127.0.0.1', () => resolve(server))
  })
  const close = () => server.closeAllConnections() || server.close()
  return { url: `http://127.0.0.1:${server.address().port}/orders`, close }
}

async function listenFastify(verifier) {
  const app = fastify()
  const onRequest = fastifyToken(verifier, 'orders:read')
  app.get('/orders', { onRequest }, async (request) => request.claims.sub)
  const url = await app.listen({ port: 0, host: '127.0.0.1' })
  return { url: `${url}/orders`, close: () => app.close() }
}

for (const listen of [listenExpress, listenFastify]) {
  test(`framework answers with the right status: ${listen.name}`, async (context) => {
    const lines = []
    const verifier = await readyVerifier({ log: (line) => lines.push(line) })
    const { url, close } = await listen(verifier)
    context.after(close)
    const get = (token) =>
      fetch(url, { headers: token === undefined ? {} : { Authorization: `Bearer ${token}` } })

    const good = await service.issue()
    assert.equal(await (await get(good)).text(), 'user-1')
    const missing = await get()
    assert.equal(missing.status, 401)
    assert.equal(missing.headers.get('WWW-Authenticate'), 'Bearer')
    assert.equal((await get('no.such.token')).status, 401)
    const forbidden = await get(await service.issue({ scope: 'dashboard:read' }))
    assert.equal(forbidden.status, 403)
    assert.match(forbidden.headers.get('WWW-Authenticate'), /insufficient_scope/)
    service.revoke('token-1')
    await eventually(async () => (await get(good)).status === 401)
    await verifier.close()
    await eventually(async () => (await get(await service.issue())).status === 503)
    const unavailable = await get(await service.issue())
    assert.equal(unavailable.headers.get('Retry-After'), '1')
    assert.deepEqual(await unavailable.json(), { detail: 'tokens cannot be verified at the moment' })
    assert(lines.some((line) => line.startsWith('failed to verify a token: what is known is')))
  })
}
