/** A reply of the feed proves nothing. */
export class ReplyRefused extends Error {
}
/** Revocations in memory, and the moment up to which they are complete. */
export class Receiver {
    /**
     * @param {number} maxStaleness
     * @param {number} leeway
     * @param {Clock} clock
     */
    constructor(maxStaleness: number, leeway: number, clock: Clock);
    /** @type {number | undefined} Staleness bound of the service, in seconds. */
    serviceBound: number | undefined;
    /** Number of revocations in memory. */
    get size(): number;
    /**
     * Begins a read. A request that was made before is given up.
     *
     * @param {number} longestWait
     * @returns {Request}
     */
    request(longestWait: number): Request;
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
    apply(request: Request, reply: any): Promise<Applied>;
    /**
     * Looks up the ids of a token: its own, its session's and its key's.
     *
     * @param {string[]} ids
     * @returns {Verdict}
     */
    check(ids: string[]): Verdict;
    /** Age of what is known, in seconds; infinite before the first complete read. */
    get staleness(): number;
    /**
     * Returns whether an introspection that was sent then, and has been answered, counts.
     *
     * @param {Stamp} sent
     * @returns {boolean}
     */
    introspectionCounts(sent: Stamp): boolean;
    /**
     * Forgets some of the entries whose tokens have expired.
     *
     * By the monotonic clock alone: it never runs ahead, as a wall clock does that is set forward and
     * back again, which would forget entries whose tokens are then accepted.
     */
    forget(): void;
    #private;
}
/**
 * A read of the feed. `wait` is the longest time for which the service may hold the reply, in
 * seconds.
 */
export type Request = {
    sent: Stamp;
    nonce: string;
    cursor: string | null;
    wait: number;
};
/**
 * Ids that are forgotten in the same minute of the monotonic clock.
 */
export type Minute = {
    number: number;
    ids: string[];
};
/**
 * A reply that counts: whether it was a complete one, and its number of entries.
 */
export type Applied = {
    isComplete: boolean;
    entries: number;
};
/**
 * Answer of the memory to the ids of a token.
 */
export type Verdict = "clear" | "revoked" | "unknown";
import type { Stamp } from './clock.js';
import type { Clock } from './clock.js';
