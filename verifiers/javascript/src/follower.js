/** Follows the service: revocations from the feed, keys from the JWKS. */

import { setTimeout as delay } from 'node:timers/promises'

import { elapsed } from './clock.js'
import { parseReply } from './feed.js'
import { RequestFailed } from './http.js'
import { KeySet } from './keys.js'

/** @import { Clock } from './clock.js' */
/** @import { Service } from './http.js' */
/** @import { Receiver, Request } from './receiver.js' */

/** Pause after a first failure, in seconds. It doubles with each further one, up to the longest. */
const FIRST_PAUSE = 0.1
const LONGEST_PAUSE = 5
/** Pause after a reply without entries that came at once, in seconds. The service makes it, too. */
const SHORTEST_ROUND = 0.2
/** Shortest time between two reads of the keys for the sake of an unknown one, in seconds. */
const UNKNOWN_KEY_INTERVAL = 5
/** Longest time for a whole reply of the feed, beyond its wait, in seconds. */
const REPLY_TIMEOUT = 60

/** Follows the service from `start` to `close`, with one request at a time. */
export class Follower {
  #service
  #receiver
  #clock
  #timeout
  #longestPause
  #onProblem
  #stopping = new AbortController()
  /** @type {Promise<void> | undefined} */
  #following
  #setReady = () => {}
  /** @type {Promise<void>} Resolves once the first complete read and the keys are there. */
  ready = new Promise((resolve) => (this.#setReady = resolve))
  #keysRetryAt = -Infinity
  #readAgainAt = -Infinity
  /** @type {Promise<void>} */
  #readAgain = Promise.resolve()
  #setTried = () => {}
  /** @type {Promise<void>} Resolves when the first attempt at both has ended. */
  #firstAttempt = new Promise((resolve) => (this.#setTried = resolve))
  /** Whether the first attempt has ended. */
  hasTried = false
  /** @type {KeySet | undefined} Replaced as a whole; `undefined` before the first read. */
  keys
  /** @type {string | undefined} Cause of the latest failure, until a read succeeds. */
  problem
  counters = { reads: 0, completeReads: 0, entries: 0, keyReads: 0, failures: 0 }

  /**
   * @param {Service} service
   * @param {Receiver} receiver
   * @param {Clock} clock
   * @param {number} maxStaleness
   * @param {KeySet | undefined} keys
   * @param {(message: string) => void} onProblem
   */
  constructor(service, receiver, clock, maxStaleness, keys, onProblem) {
    this.#service = service
    this.#receiver = receiver
    this.#clock = clock
    this.#timeout = maxStaleness / 4
    this.#longestPause = Math.min(LONGEST_PAUSE, maxStaleness / 4)
    this.keys = keys
    this.#onProblem = onProblem
  }

  /** Starts to follow, unless it does or was closed. */
  start() {
    if (!this.#stopping.signal.aborted) this.#following ??= this.#follow()
  }

  /**
   * Waits for the end of the first attempt to read, whether it succeeds or not. After the first wait
   * that was too long, it is not waited for any more.
   *
   * @param {number} timeout In seconds.
   */
  async waitUntilTried(timeout) {
    const overdue = new AbortController()
    const late = delay(timeout * 1000, undefined, { signal: overdue.signal })
    await Promise.race([this.#firstAttempt, late]).finally(() => overdue.abort())
    this.hasTried = true
  }

  /** Ends the request that is under way, and all further ones. */
  async close() {
    this.hasTried = true
    this.#stopping.abort()
    await this.#following
  }

  /**
   * Reads the keys, for a token with an unknown one, unless this was done a moment ago. Callers share
   * the read and its failure.
   *
   * @returns {Promise<void>}
   */
  readKeysAgain() {
    if (this.#clock().monotonic - this.#readAgainAt >= UNKNOWN_KEY_INTERVAL) {
      // A slow read is not repeated by those that wait for it.
      this.#readAgainAt = Infinity
      this.#readAgain = this.#readKeys().finally(() => {
        this.#readAgainAt = this.#clock().monotonic
      })
    }
    return this.#readAgain
  }

  async #follow() {
    const { signal } = this.#stopping
    for (let failures = 0; !signal.aborted; ) {
      let pause
      try {
        pause = await this.#round()
        failures = 0
      } catch (error) {
        if (signal.aborted) return
        pause = this.#failed(/** @type {Error} */ (error), failures++)
      } finally {
        this.hasTried = true
        this.#setTried()
      }
      if (pause > 0) await delay(pause * 1000, undefined, { signal }).catch(() => {})
    }
  }

  /** Reads the keys if they are due, then the feed. Returns the pause before the next read. */
  async #round() {
    if (this.#keysDueIn() <= 0) await this.#renewKeys()
    const request = this.#receiver.request(Math.max(this.#keysDueIn(), 0))
    const entries = await this.#readFeed(request)
    this.#receiver.forget()
    if (this.problem !== undefined) this.#onProblem('following the revocation feed again')
    this.problem = undefined
    this.#setReady()
    const took = this.#clock().monotonic - request.sent.monotonic
    const isEarly = entries === 0 && took < Math.min(request.wait, SHORTEST_ROUND)
    return isEarly ? SHORTEST_ROUND : 0
  }

  /**
   * Reads the feed. Returns the number of entries.
   *
   * @param {Request} request
   */
  async #readFeed(request) {
    const { nonce, cursor, wait } = request
    const query = new URLSearchParams({ nonce, wait: wait.toFixed(3) })
    if (cursor !== null) query.set('cursor', cursor)
    const { body } = await this.#service.request(`/revocations?${query}`, {
      headTimeout: wait + this.#timeout,
      timeout: wait + REPLY_TIMEOUT,
      withCredentials: true,
      signal: this.#stopping.signal,
      parse: parseReply,
    })
    const { isComplete, entries } = await this.#receiver.apply(request, body)
    this.counters.reads++
    this.counters.completeReads += Number(isComplete)
    this.counters.entries += entries
    return entries
  }

  /** Reads the keys. A failure does not stop the feed while those in memory are fresh. */
  async #renewKeys() {
    try {
      await this.#readKeys()
    } catch (error) {
      const now = this.#clock()
      if (this.#stopping.signal.aborted || !this.keys?.isFresh(now)) throw error
      this.counters.failures++
      this.#keysRetryAt = now.monotonic + this.#longestPause
      const { message } = /** @type {Error} */ (error)
      this.#onProblem(`failed to read the keys; those in memory are still good: ${message}`)
    }
  }

  async #readKeys() {
    const sent = this.#clock()
    const { headers, body } = await this.#service.request('/.well-known/jwks.json', {
      timeout: this.#timeout,
      signal: this.#stopping.signal,
    })
    const keys = await KeySet.fromJwks(body, headers.get('Cache-Control'), sent)
    if (this.keys === undefined || this.keys.sent.monotonic <= sent.monotonic) this.keys = keys
    this.counters.keyReads++
  }

  /**
   * Returns the time until the keys have to be read, in seconds.
   *
   * That is after half of their life; after a failure, some time later, but within their life.
   */
  #keysDueIn() {
    if (this.keys === undefined) return 0
    const now = this.#clock()
    const age = elapsed(this.keys.sent, now)
    const retryIn = Math.min(this.#keysRetryAt - now.monotonic, this.keys.maxAge - age)
    return Math.max(this.keys.maxAge / 2 - age, retryIn)
  }

  /**
   * Notes a failure. Returns the pause before the next attempt, with jitter.
   *
   * @param {Error} error
   * @param {number} failures
   */
  #failed(error, failures) {
    this.counters.failures++
    if (this.problem === undefined) {
      this.#onProblem(`failed to follow the revocation feed; retrying: ${error.message}`)
    }
    this.problem = error.message
    const retryAfter = error instanceof RequestFailed ? error.retryAfter : 0
    const pause = Math.max(FIRST_PAUSE * 2 ** Math.min(failures, 16), retryAfter)
    return Math.min(pause, this.#longestPause) * (0.5 + Math.random())
  }
}
