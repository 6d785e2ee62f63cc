/** Follows the service from `start` to `close`, with one request at a time. */
export class Follower {
    /**
     * @param {Service} service
     * @param {Receiver} receiver
     * @param {Clock} clock
     * @param {number} maxStaleness
     * @param {KeySet | undefined} keys
     * @param {(message: string) => void} onProblem
     */
    constructor(service: Service, receiver: Receiver, clock: Clock, maxStaleness: number, keys: KeySet | undefined, onProblem: (message: string) => void);
    /** @type {Promise<void>} Resolves once the first complete read and the keys are there. */
    ready: Promise<void>;
    /** Whether the first attempt has ended. */
    hasTried: boolean;
    /** @type {KeySet | undefined} Replaced as a whole; `undefined` before the first read. */
    keys: KeySet | undefined;
    /** @type {string | undefined} Cause of the latest failure, until a read succeeds. */
    problem: string | undefined;
    counters: {
        reads: number;
        completeReads: number;
        entries: number;
        keyReads: number;
        failures: number;
    };
    /** Starts to follow, unless it does or was closed. */
    start(): void;
    /**
     * Waits for the end of the first attempt to read, whether it succeeds or not. After the first wait
     * that was too long, it is not waited for any more.
     *
     * @param {number} timeout In seconds.
     */
    waitUntilTried(timeout: number): Promise<void>;
    /** Ends the request that is under way, and all further ones. */
    close(): Promise<void>;
    /**
     * Reads the keys, for a token with an unknown one, unless this was done a moment ago. Callers share
     * the read and its failure.
     *
     * @returns {Promise<void>}
     */
    readKeysAgain(): Promise<void>;
    #private;
}
import { KeySet } from './keys.js';
import type { Service } from './http.js';
import type { Receiver } from './receiver.js';
import type { Clock } from './clock.js';
