/** @import { CompactJWSHeaderParameters, JWTPayload } from 'jose' */
/** @import { Key } from './keys.js' */
/**
 * Claims of an access token.
 *
 * @typedef {JWTPayload & { sub: string, sid: string, jti: string, exp: number, scope?: string,
 *   username?: string, roles?: string[], client_id?: string }} Claims
 */
/** Issuer and recipient of the tokens, the leeway for their times in seconds, and the algorithm. */
export class TokenRules {
    /**
     * @param {string} issuer
     * @param {string} audience
     * @param {number} leeway
     * @param {'ES256' | 'HS256'} algorithm
     */
    constructor(issuer: string, audience: string, leeway: number, algorithm: "ES256" | "HS256");
    /**
     * Verifies a token with the key that `findKey` returns for its `kid`. An error of `findKey` is
     * passed on.
     *
     * @param {string} token
     * @param {(kid: string) => Key} findKey
     * @returns {Promise<{ claims: Claims, key: Key }>}
     * @throws {TokenInvalid}
     */
    verify(token: string, findKey: (kid: string) => Key): Promise<{
        claims: Claims;
        key: Key;
    }>;
    #private;
}
/**
 * Claims of an access token.
 */
export type Claims = JWTPayload & {
    sub: string;
    sid: string;
    jti: string;
    exp: number;
    scope?: string;
    username?: string;
    roles?: string[];
    client_id?: string;
};
import type { Key } from './keys.js';
import type { JWTPayload } from 'jose';
