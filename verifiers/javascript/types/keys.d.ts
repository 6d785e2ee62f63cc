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
/** Keys of one reply. They may be used for `maxAge` seconds after the request was sent. */
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
     * @param {Map<string, Key>} keys
     * @param {Stamp} sent
     * @param {number} maxAge
     */
    constructor(keys: Map<string, Key>, sent: Stamp, maxAge: number);
    sent: Stamp;
    maxAge: number;
    /**
     * Returns the key with that id, if it is among these.
     *
     * @param {string} kid
     */
    find(kid: string): Key | undefined;
    /**
     * Returns whether the keys may still be used.
     *
     * @param {Stamp} now
     */
    isFresh(now: Stamp): boolean;
    #private;
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
