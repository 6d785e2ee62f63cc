/** Against the real service, whose program is named by PORTCULLIS. */

import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, test } from 'node:test'

import { TokenRevoked, Unavailable, Verifier } from '../src/index.js'
import { BOUND, Portcullis } from './portcullis.js'
import { AUDIENCE, ISSUER, eventually } from './scripted_service.js'

const { PORTCULLIS } = process.env
const MAX_STALENESS = 2 * BOUND

describe('against the service', { skip: PORTCULLIS === undefined }, () => {
  let portcullis, verifier
  beforeEach(async () => {
    portcullis = await Portcullis.start(PORTCULLIS)
    verifier = new Verifier({
      issuer: ISSUER,
      audience: AUDIENCE,
      ...(await portcullis.newClient('revocations:read', 'tokens:introspect')),
      maxStaleness: MAX_STALENESS,
      introspect: true,
      url: portcullis.url,
      log: () => {},
    })
    await verifier.waitUntilReady(20)
  })
  afterEach(async () => {
    await verifier.close()
    await portcullis.stop()
  })

  /** Verifies a token until it is refused. It must not be accepted beyond the bound. */
  async function refusalWithinBound(token) {
    const begin = performance.now()
    for (;;) {
      const beganAt = performance.now()
      try {
        await verifier.verify(token)
      } catch (error) {
        return error
      }
      assert(beganAt - begin <= MAX_STALENESS * 1000)
    }
  }

  test('logout reaches verifier', async () => {
    const token = await portcullis.logIn()
    const other = await portcullis.logIn()
    assert.equal((await verifier.verify(token, 'dashboard:read')).username, 'testuser')
    await portcullis.logOut(token)
    assert((await refusalWithinBound(token)) instanceof TokenRevoked)
    await verifier.verify(other)
  })

  test('revoked key reaches verifier', async () => {
    const token = await portcullis.logIn()
    await verifier.verify(token)
    await portcullis.command('key', 'revoke', '--all', '--yes')
    assert((await refusalWithinBound(token)) instanceof TokenRevoked)
    // Keys that nobody has published before sign from now on.
    await eventually(async () => (await verifier.verify(await portcullis.logIn())).iss === ISSUER)
  })

  test('service that is gone makes verifier refuse', async () => {
    const token = await portcullis.logIn()
    const revoked = await portcullis.logIn()
    await verifier.verify(token)
    await portcullis.logOut(revoked)
    await portcullis.kill()
    assert((await refusalWithinBound(token)) instanceof Unavailable)
    await portcullis.start()
    await eventually(() => verifier.staleness < MAX_STALENESS)
    await verifier.verify(token)
    assert((await refusalWithinBound(revoked)) instanceof TokenRevoked)
  })

  test('service that is frozen makes verifier refuse', async () => {
    const token = await portcullis.logIn()
    portcullis.freeze()
    assert((await refusalWithinBound(token)) instanceof Unavailable)
    portcullis.thaw()
    await eventually(() => verifier.staleness < MAX_STALENESS)
    await verifier.verify(token)
  })

  test('introspection answers while the feed is out of reach', async () => {
    const token = await portcullis.logIn()
    const revoked = await portcullis.logIn()
    await verifier.close()
    await eventually(() => verifier.staleness > MAX_STALENESS)
    await portcullis.logOut(revoked)
    await verifier.verify(token)
    await assert.rejects(verifier.verify(revoked), TokenRevoked)
    assert.equal(verifier.counters.introspections, 2)
  })
})
