import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { systemClock } from '../src/clock.js'
import { TokenInvalid } from '../src/index.js'
import { KeySet, revocationId } from '../src/keys.js'
import { TokenRules } from '../src/tokens.js'
import { FEED, TOKENS, play } from './vectors.js'

for (const vector of FEED) {
  test(`receiver passes vector: ${vector.name}`, async () => assert.deepEqual(await play(vector), []))
}

async function verdictOn({ token, with_secret: withSecret }) {
  const { issuer, audience, leeway, jwks, secret } = TOKENS
  const keys = withSecret
    ? KeySet.fromSecret(secret, systemClock())
    : await KeySet.fromJwks(jwks, 'max-age=300', systemClock())
  const rules = new TokenRules(issuer, audience, leeway, withSecret ? 'HS256' : 'ES256')
  const findKey = (kid) => {
    const key = keys.find(kid)
    if (key === undefined) throw new Error('unknown key')
    return key
  }
  try {
    await rules.verify(token, findKey)
    return 'valid'
  } catch (error) {
    return error instanceof TokenInvalid ? 'invalid' : error.message
  }
}

for (const vector of TOKENS.tokens) {
  test(`verifier passes vector: ${vector.name}`, async () =>
    assert.equal(await verdictOn(vector), vector.verdict))
}

test('revocation id of a key is half of its thumbprint', () => {
  assert.equal(revocationId(TOKENS.jwks.keys[0].kid), TOKENS.revocation_id)
})

const FILE = new URL('../src/receiver.js', import.meta.url)
const SOURCE = readFileSync(FILE, 'utf8')

// Rule that is broken: what stands in the source, and what a wrong receiver has instead.
const WRONG = {
  'any nonce': ['if (nonce !== request.nonce)', 'if (false)'],
  'first reply may be incomplete': ['request.cursor === null && complete !== true', 'false'],
  'staleness from the arrival': ['provenMoment(request.sent, ageMs', 'provenMoment(arrived, ageMs'],
  'age is ignored': ['ageMs / 1000', '0'],
  'moments in the future': ['ageMs / 1000, arrived)', 'ageMs / 1000, { monotonic: Infinity, wall: Infinity })'],
  'both clocks of the arrival': [
    'Math.min(sent.wall - age, Math.max(sent.wall, arrived.wall))',
    'sent.monotonic - age <= arrived.monotonic ? sent.wall - age : arrived.wall',
  ],
  'a step back before the arrival is hidden': ['Math.max(sent.wall, arrived.wall)', 'arrived.wall'],
  'knows less again': ['if (elapsed(moment, now) > elapsed(this.#knownUntil, now)) return', ''],
  'cursor before the entries': ['const entries =', 'this.#cursor = cursor; const entries ='],
  'complete reply replaces': ['const entries =', 'if (complete) this.#revoked.clear(); const entries ='],
  'cursor stays': ['this.#cursor = cursor\n', ''],
  'monotonic clock alone': ['Math.max(monotonic, wall) >', 'monotonic >'],
  'wall clock alone': ['Math.max(monotonic, wall) >', 'wall >'],
  'wall clock may be set back': [' || wall < monotonic - OVERLOOKED_STEP', ''],
  'a clock that is set back makes clear again': ['const now = this.#clock()\n    const monotonic', 'this.#isOutdated = false; const now = this.#clock()\n    const monotonic'],
  'only the id of the token': ['for (const id of ids)', 'for (const id of ids.slice(0, 1))'],
  'any clock': ['if (Math.abs(request.sent.wall - now) > CLOCK_SKEW_ALLOWANCE)', 'if (false)'],
  'no allowance': ['CLOCK_SKEW_ALLOWANCE + leeway + 1 + OVERLOOKED_STEP', 'leeway'],
  'forgets by the wall clock': ['this.#clock().monotonic / 60', '(this.#clock().wall - 1767323000) / 60'],
  'shortens entries': ['held === undefined || held.number < minute.number', 'true'],
  'keeps the first expiry': ['held === undefined || held.number < minute.number', 'held === undefined'],
  'any bound': ['if (this.#maxStaleness < 2 * bound)', 'if (false)'],
  'waits for too long': ['this.#maxStaleness / 4', 'this.#maxStaleness'],
  'introspection from its arrival': ['elapsed(sent, this.#clock())', '0'],
  'introspection for the whole bound': ['this.#maxStaleness - this.serviceBound', 'this.#maxStaleness'],
}

for (const [rule, [right, wrong]] of Object.entries(WRONG)) {
  test(`wrong receiver fails a vector: ${rule}`, async () => {
    assert.equal(SOURCE.split(right).length, 2)
    const clock = new URL('clock.js', FILE).href
    const source = SOURCE.replace(right, wrong).replace('./clock.js', clock)
    const module = await import(`data:text/javascript,${encodeURIComponent(source)}`)
    const problems = []
    for (const vector of FEED) problems.push(...(await play(vector, module)))
    assert.notDeepEqual(problems, [])
  })
}
