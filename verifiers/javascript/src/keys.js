/** Keys that verify the signatures of tokens. */

import { importJWK } from 'jose'

import { elapsed } from './clock.js'

/** @import { CryptoKey, JWK } from 'jose' */
/** @import { Stamp } from './clock.js' */

/** Lifetime of keys whose reply names none, in seconds. */
const DEFAULT_MAX_AGE = 300

/**
 * A key, and the id under which the feed lists it when it was revoked.
 *
 * @typedef {{ key: CryptoKey | Uint8Array, revocationId: string }} Key
 */

/** Keys that may be used for `maxAge` seconds after they were asked for. */
export class KeySet {
  /**
   * @param {(kid: string) => Key | undefined} find
   * @param {Stamp} sent
   * @param {number} maxAge
   */
  constructor(find, sent, maxAge) {
    /** Returns the key with that id, if it is among these. */
    this.find = find
    this.sent = sent
    this.maxAge = maxAge
  }

  /**
   * Reads a JWK set (RFC 7517). Other kinds of keys are skipped.
   *
   * @param {any} jwks
   * @param {string | null} cacheControl
   * @param {Stamp} sent
   * @returns {Promise<KeySet>}
   */
  static async fromJwks(jwks, cacheControl, sent) {
    if (!Array.isArray(jwks?.keys)) throw new TypeError('not a JWK set')
    const keys = new Map()
    for (const jwk of jwks.keys.filter(isOurs)) {
      const key = await importJWK(jwk, 'ES256')
      keys.set(jwk.kid, { key, revocationId: revocationId(jwk.kid) })
    }
    const maxAge = /\bmax-age=(\d+)/.exec(cacheControl ?? '')?.[1]
    const find = (/** @type {string} */ kid) => keys.get(kid)
    return new KeySet(find, sent, maxAge === undefined ? DEFAULT_MAX_AGE : Number(maxAge))
  }

  /**
   * Uses the secret of a service with `JWT_ALGORITHM=HS256`, for every token.
   *
   * @param {string} secret
   * @param {Stamp} now
   * @returns {KeySet}
   */
  static fromSecret(secret, now) {
    const key = new TextEncoder().encode(secret)
    return new KeySet((kid) => ({ key, revocationId: revocationId(kid) }), now, Infinity)
  }

  /**
   * Returns whether the keys may still be used.
   *
   * @param {Stamp} now
   */
  isFresh(now) {
    return elapsed(this.sent, now) <= this.maxAge
  }
}

/**
 * Returns the id of a revoked key: the first half of its thumbprint, as a UUID.
 *
 * @param {string} kid
 */
export function revocationId(kid) {
  const hex = Buffer.from(kid, 'base64url').toString('hex').slice(0, 32)
  if (hex.length < 32) return kid
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

/** @param {any} jwk */
function isOurs(jwk) {
  const { kid, kty, crv, alg = 'ES256', use = 'sig' } = jwk ?? {}
  return typeof kid === 'string' && kty === 'EC' && crv === 'P-256' && alg === 'ES256' && use === 'sig'
}
