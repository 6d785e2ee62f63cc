/**
 * The receiver of the revocation feed, without I/O.
 *
 * It decides whether a token may be accepted from memory. `docs/write-a-verifier.md` lists its
 * rules, and `docs/revocation.md` proves that they suffice.
 */

import { randomBytes } from 'node:crypto'
import { setImmediate as otherWork } from 'node:timers/promises'

import { NEVER, elapsed } from './clock.js'

/** @import { Clock, Stamp } from './clock.js' */

/**
 * A read of the feed. `wait` is the longest time for which the service may hold the reply, in
 * seconds.
 *
 * @typedef {{ sent: Stamp, nonce: string, cursor: string | null, wait: number }} Request
 */

/**
 * Ids that are forgotten in the same minute of the monotonic clock.
 *
 * @typedef {{ number: number, ids: string[] }} Minute
 */

/**
 * A reply that counts: whether it was a complete one, and its number of entries.
 *
 * @typedef {{ isComplete: boolean, entries: number }} Applied
 */

/** @typedef {'clear' | 'revoked' | 'unknown'} Verdict Answer of the memory to the ids of a token. */

/** Largest difference between the clocks of this machine and of the service, in seconds. */
const CLOCK_SKEW_ALLOWANCE = 300
/** Largest step back of the wall clock that does not matter, in seconds. */
const OVERLOOKED_STEP = 1
/** Number of entries that are forgotten at once, which takes about a millisecond. */
const FORGOTTEN_AT_ONCE = 10_000
/** Number of entries that are added at once, which takes about a millisecond. */
const ADDED_AT_ONCE = 500

/** A reply of the feed proves nothing. */
export class ReplyRefused extends Error {
  name = 'ReplyRefused'
}

/** Revocations in memory, and the moment up to which they are complete. */
export class Receiver {
  #maxStaleness
  #retention
  #clock
  #knownUntil = NEVER
  // Set by the first check that finds it too old, until the next reply: a clock can be set back.
  #isOutdated = false
  /** @type {string | null} */
  #cursor = null
  // Both hold each id: by itself, and by the minute in which it is forgotten.
  /** @type {Map<string, Minute>} */
  #revoked = new Map()
  /** @type {Map<number, Minute>} */
  #minutes = new Map()
  /** @type {number | undefined} Staleness bound of the service, in seconds. */
  serviceBound

  /**
   * @param {number} maxStaleness
   * @param {number} leeway
   * @param {Clock} clock
   */
  constructor(maxStaleness, leeway, clock) {
    this.#maxStaleness = maxStaleness
    // Beyond the expiry of an entry. The clock of this machine may be behind by the allowance when a
    // reply is checked, which counts whole seconds, and by an overlooked step after it.
    this.#retention = CLOCK_SKEW_ALLOWANCE + leeway + 1 + OVERLOOKED_STEP
    this.#clock = clock
  }

  /** Number of revocations in memory. */
  get size() {
    return this.#revoked.size
  }

  /**
   * Begins a read. A request that was made before is given up.
   *
   * @param {number} longestWait
   * @returns {Request}
   */
  request(longestWait) {
    const wait = Math.min(longestWait, this.#maxStaleness / 4, (this.serviceBound ?? Infinity) / 2)
    const nonce = randomBytes(16).toString('base64url')
    return { sent: this.#clock(), nonce, cursor: this.#cursor, wait }
  }

  /**
   * Applies a reply, one at a time. Its entries may come from an iterator. Between many of them other
   * work goes on, to which what was known before still holds.
   *
   * Entries only ever add, so those of a refused reply may stay.
   *
   * @param {Request} request
   * @param {any} reply
   * @returns {Promise<Applied>}
   * @throws {ReplyRefused} The reply proves nothing.
   */
  async apply(request, reply) {
    const arrived = this.#clock()
    const { nonce, cursor, age_ms: ageMs, now, bound_ms: boundMs, complete, revoked } = reply ?? {}
    if (![ageMs, now, boundMs].every(Number.isFinite) || !revoked?.[Symbol.iterator]) {
      throw new ReplyRefused('the reply is malformed')
    }
    if (nonce !== request.nonce) throw new ReplyRefused('the reply is to another request')
    if (typeof cursor !== 'string' || (request.cursor === null && complete !== true)) {
      throw new ReplyRefused('the reply has no cursor, or is not complete')
    }

    const entries = await this.#add(revoked, now, arrived)
    const bound = boundMs / 1000
    this.serviceBound = bound
    // That is the bound of the service and two waits, the longest of which is half of it.
    if (this.#maxStaleness < 2 * bound) {
      throw new ReplyRefused(
        `maxStaleness is ${this.#maxStaleness} s, and has to be at least ${2 * bound} s, ` +
          'twice the bound of the service',
      )
    }
    if (Math.abs(request.sent.wall - now) > CLOCK_SKEW_ALLOWANCE) {
      throw new ReplyRefused('the clock of this machine differs from that of the service')
    }
    this.#cursor = cursor
    this.#vouch(provenMoment(request.sent, ageMs / 1000, arrived), arrived)
    return { isComplete: complete === true, entries }
  }

  /**
   * Looks up the ids of a token: its own, its session's and its key's.
   *
   * @param {string[]} ids
   * @returns {Verdict}
   */
  check(ids) {
    // In this order: a process that is held up in between answers `unknown`.
    const knownUntil = this.#knownUntil
    for (const id of ids) {
      if (this.#revoked.has(id)) return 'revoked'
    }
    if (this.#isTooOld(knownUntil)) this.#isOutdated = true
    return this.#isOutdated ? 'unknown' : 'clear'
  }

  /** Age of what is known, in seconds; infinite before the first complete read. */
  get staleness() {
    return elapsed(this.#knownUntil, this.#clock())
  }

  /**
   * Returns whether an introspection that was sent then, and has been answered, counts.
   *
   * @param {Stamp} sent
   * @returns {boolean}
   */
  introspectionCounts(sent) {
    if (this.serviceBound === undefined) return false
    const took = elapsed(sent, this.#clock())
    return took >= 0 && took <= this.#maxStaleness - this.serviceBound
  }

  /**
   * Forgets some of the entries whose tokens have expired.
   *
   * By the monotonic clock alone: it never runs ahead, as a wall clock does that is set forward and
   * back again, which would forget entries whose tokens are then accepted.
   */
  forget() {
    const thisMinute = Math.floor(this.#clock().monotonic / 60)
    let budget = FORGOTTEN_AT_ONCE
    for (const minute of this.#minutes.values()) {
      if (minute.number >= thisMinute) continue
      for (; budget > 0 && minute.ids.length > 0; budget--) {
        const id = /** @type {string} */ (minute.ids.pop())
        // A later expiry may have arrived since.
        if (this.#revoked.get(id) === minute) this.#revoked.delete(id)
      }
      if (minute.ids.length === 0) this.#minutes.delete(minute.number)
    }
  }

  /**
   * Returns the number of entries.
   *
   * @param {Iterable<unknown>} revoked
   * @param {number} now
   * @param {Stamp} arrived
   */
  async #add(revoked, now, arrived) {
    const base = arrived.monotonic + this.#retention - now
    let entries = 0
    for (const entry of revoked) {
      const [id, expiry] = Array.isArray(entry) ? entry : []
      if (typeof id !== 'string' || !Number.isFinite(expiry)) {
        throw new ReplyRefused('an entry is malformed')
      }
      const minute = this.#minute(Math.floor((base + expiry) / 60))
      const held = this.#revoked.get(id)
      if (held === undefined || held.number < minute.number) {
        this.#revoked.set(id, minute)
        minute.ids.push(id)
      }
      if (++entries % ADDED_AT_ONCE === 0) await otherWork()
    }
    return entries
  }

  /**
   * @param {number} number
   * @returns {Minute}
   */
  #minute(number) {
    let minute = this.#minutes.get(number)
    if (minute === undefined) {
      minute = { number, ids: [] }
      this.#minutes.set(number, minute)
    }
    return minute
  }

  /**
   * @param {Stamp} moment
   * @param {Stamp} now
   */
  #vouch(moment, now) {
    // Either moment is proven. On two clocks, the later one is that from which less has elapsed.
    if (elapsed(moment, now) > elapsed(this.#knownUntil, now)) return
    this.#knownUntil = moment
    // The machine may have slept since the request, which the first check may not see.
    this.#isOutdated = this.#isTooOld(moment)
  }

  /**
   * @param {Stamp} moment
   * @returns {boolean}
   */
  #isTooOld(moment) {
    const now = this.#clock()
    const monotonic = now.monotonic - moment.monotonic
    const wall = now.wall - moment.wall
    // A wall clock that was set back hides a suspension, and revives expired tokens.
    return Math.max(monotonic, wall) > this.#maxStaleness || wall < monotonic - OVERLOOKED_STEP
  }
}

/**
 * Returns the moment up to which a reply is complete: its age before its request was sent.
 *
 * A negative age moves it forward, on each clock by no more than that clock has advanced.
 *
 * @param {Stamp} sent
 * @param {number} age
 * @param {Stamp} arrived
 * @returns {Stamp}
 */
function provenMoment(sent, age, arrived) {
  return {
    monotonic: Math.min(sent.monotonic - age, Math.max(sent.monotonic, arrived.monotonic)),
    wall: Math.min(sent.wall - age, Math.max(sent.wall, arrived.wall)),
  }
}
