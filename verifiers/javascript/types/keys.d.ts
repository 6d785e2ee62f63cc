/**
 * Returns the id of a revoked key: the first half of its thumbprint, as a UUID.
 *
 * @param {string} kid
 */
export function revocationId(kid: string): string;
/**
 * A key, and the id under which the feed lists it when it was revoked.
 *
 * @typedef {{ key: CryptoKey | Uint8Array, revocationId: string }} Key
 */
/** Keys that may be used for `maxAge` seconds after they were asked for. */
export class KeySet {
    /**
     * Reads a JWK set (RFC 7517). Other kinds of keys are skipped.
     *
     * @param {any} jwks
     * @param {string | null} cacheControl
     * @param {Stamp} sent
     * @returns {Promise<KeySet>}
     */
    static fromJwks(jwks: any, cacheControl: string | null, sent: Stamp): Promise<KeySet>;
    /**
     * Uses the secret of a service with `JWT_ALGORITHM=HS256`, for every token.
     *
     * @param {string} secret
     * @param {Stamp} now
     * @returns {KeySet}
     */
    static fromSecret(secret: string, now: Stamp): KeySet;
    /**
     * @param {(kid: string) => Key | undefined} find
     * @param {Stamp} sent
     * @param {number} maxAge
     */
    constructor(find: (kid: string) => Key | undefined, sent: Stamp, maxAge: number);
    /** Returns the key with that id, if it is among these. */
    find: (kid: string) => Key | undefined;
    sent: Stamp;
    maxAge: number;
    /**
     * Returns whether the keys may still be used.
     *
     * @param {Stamp} now
     */
    isFresh(now: Stamp): boolean;
}
/**
 * A key, and the id under which the feed lists it when it was revoked.
 */
export type Key = {
    key: CryptoKey | Uint8Array;
    revocationId: string;
};
import type { Stamp } from './clock.js';
import type { CryptoKey } from 'jose';
