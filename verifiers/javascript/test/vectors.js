/** The vectors that all verifiers share: `verifiers/vectors`. */

import { readFileSync } from 'node:fs'

import * as honest from '../src/receiver.js'

const read = (name) => JSON.parse(readFileSync(new URL(`../../vectors/${name}`, import.meta.url)))

export const FEED = read('feed.json').vectors
export const TOKENS = read('tokens.json')

/** Plays a vector. Returns what went otherwise than it says. */
export async function play({ settings, steps }, { Receiver, ReplyRefused } = honest) {
  let now = { monotonic: 0, wall: 0 }
  const receiver = new Receiver(settings.max_staleness, settings.leeway, () => now)
  const requests = []
  const problems = []
  const expect = (what, found, step) => {
    if (what in step && found !== step[what]) problems.push({ found, step })
  }
  const apply = async ({ nonce, ...reply }) => {
    const { nonce: sent } = requests[Number(nonce.replace('$nonce', '')) - 1]
    try {
      await receiver.apply(requests.at(-1), { ...reply, nonce: sent })
      return true
    } catch (error) {
      if (!(error instanceof ReplyRefused)) throw error
      return false
    }
  }
  const actions = {
    send: (step) => {
      const request = receiver.request(Infinity)
      requests.push(request)
      expect('cursor', request.cursor, step)
      expect('wait', request.wait, step)
    },
    receive: async (step) => expect('accepted', await apply(step.reply), step),
    check: (step) => expect('verdict', receiver.check(step.ids), step),
    introspect: (step) => expect('counts', receiver.introspectionCounts(step.sent), step),
    forget: () => receiver.forget(),
  }
  for (const step of steps) {
    now = { monotonic: step.monotonic, wall: step.wall }
    await actions[step.do](step)
  }
  return problems
}
