import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'

import { systemClock } from '../src/clock.js'
import { parseReply } from '../src/feed.js'
import { Receiver } from '../src/receiver.js'

const body = (count) => ({
  nonce: '1',
  revoked: Array.from({ length: count }, (_, number) => [`token-${number}`, number]),
})

/** Cuts a text as a network does. */
function cut(text, length) {
  const pieces = []
  for (let start = 0; start < text.length; start += length) pieces.push(text.slice(start, start + length))
  return pieces
}

const replyWith = ({ nonce }, revoked) => {
  const now = Math.round(systemClock().wall)
  return { nonce, cursor: '1', age_ms: 0, now, bound_ms: 500, complete: true, revoked }
}

for (const space of [undefined, 1]) {
  for (const count of [0, 1, 2_000, 20_000]) {
    for (const length of [7, 1_000, 65_536, Infinity]) {
      test(`reply is parsed as a whole would be: ${count} entries, ${length}, ${space}`, () => {
        const pieces = cut(JSON.stringify(body(count), undefined, space), length)
        const { revoked, ...fields } = parseReply(pieces)
        assert.deepEqual({ ...fields, revoked: [...revoked] }, body(count))
      })
    }
  }
}

test('long reply is parsed in pieces', (context) => {
  const pieces = cut(JSON.stringify(body(20_000)), 65_536)
  const parse = context.mock.method(JSON, 'parse')
  const entries = [...parseReply(pieces).revoked]
  const lengths = parse.mock.calls.map((call) => call.arguments[0].length)
  assert.equal(entries.length, 20_000)
  assert(Math.max(...lengths) < 66_000)
})

test('long reply with a malformed entry is refused', async () => {
  const text = JSON.stringify(body(20_000)).replace('["token-19000",', '["token-19000"')
  const receiver = new Receiver(1, 5, systemClock)
  const request = receiver.request(1)
  await assert.rejects(receiver.apply(request, replyWith(request, parseReply(cut(text, 65_536)).revoked)), SyntaxError)
  assert.equal(receiver.check(['token-0']), 'revoked')
  assert.equal(receiver.check(['other']), 'unknown')
  assert.equal(receiver.request(1).cursor, null)
})

test('nothing is clear before the last entry, and other work goes on meanwhile', async () => {
  const receiver = new Receiver(1, 5, systemClock)
  const request = receiver.request(1)
  const { revoked } = body(20_000)
  revoked.push(['last', systemClock().wall + 3600])
  let isApplied = false
  const applying = receiver.apply(request, replyWith(request, revoked)).finally(() => (isApplied = true))
  let turns = 0
  for (; !isApplied; turns++) {
    assert.notEqual(receiver.check(['other']), 'clear')
    assert.equal(receiver.request(1).cursor, null)
    await turn()
  }
  assert(turns > 20)
  assert.deepEqual(await applying, { isComplete: true, entries: 20_001 })
  assert.equal(receiver.check(['last']), 'revoked')
  assert.equal(receiver.check(['other']), 'clear')
})
