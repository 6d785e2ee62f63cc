/** Elapsed time. */

/**
 * A moment, on two clocks, in seconds.
 *
 * @typedef {{ readonly monotonic: number, readonly wall: number }} Stamp
 * @typedef {() => Stamp} Clock
 */

/** @type {Stamp} */
export const NEVER = { monotonic: -Infinity, wall: -Infinity }

/** @type {Clock} Reads the clocks of the machine. */
export const systemClock = () => ({ monotonic: performance.now() / 1000, wall: Date.now() / 1000 })

/**
 * Returns the time from a moment to another, in seconds.
 *
 * It is the larger of the two advances: a monotonic clock may stop while the machine is suspended,
 * and a wall clock can be set back.
 *
 * @param {Stamp} since
 * @param {Stamp} now
 * @returns {number}
 */
export function elapsed(since, now) {
  return Math.max(now.monotonic - since.monotonic, now.wall - since.wall)
}
