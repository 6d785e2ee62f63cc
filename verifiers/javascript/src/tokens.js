/** Rules that a token has to satisfy, apart from revocation (RFC 9068 section 4). */

import { errors, jwtVerify } from 'jose'

import { TokenInvalid } from './errors.js'

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
  #options

  /**
   * @param {string} issuer
   * @param {string} audience
   * @param {number} leeway
   * @param {'ES256' | 'HS256'} algorithm
   */
  constructor(issuer, audience, leeway, algorithm) {
    this.#options = {
      issuer,
      audience,
      clockTolerance: leeway,
      algorithms: [algorithm],
      typ: 'at+jwt',
      requiredClaims: ['exp', 'sub', 'sid', 'jti'],
    }
  }

  /**
   * Verifies a token with the key that `findKey` returns for its `kid`. An error of `findKey` is
   * passed on.
   *
   * @param {string} token
   * @param {(kid: string) => Key} findKey
   * @returns {Promise<{ claims: Claims, key: Key }>}
   * @throws {TokenInvalid}
   */
  async verify(token, findKey) {
    /** @type {Key | undefined} */
    let found
    try {
      const { payload } = await jwtVerify(
        token,
        (/** @type {CompactJWSHeaderParameters} */ { kid, crit, b64 }) => {
          if (crit !== undefined || b64 !== undefined) {
            throw new TokenInvalid('the header has an extension that is not supported')
          }
          if (typeof kid !== 'string') throw new TokenInvalid('the token names no key')
          found = findKey(kid)
          return found.key
        },
        this.#options,
      )
      const { jti, sid } = payload
      if (typeof jti !== 'string' || typeof sid !== 'string') {
        throw new TokenInvalid('an id of the token is not a string')
      }
      return { claims: /** @type {Claims} */ (payload), key: /** @type {Key} */ (found) }
    } catch (error) {
      if (error instanceof errors.JOSEError) throw new TokenInvalid(error.message)
      throw error
    }
  }
}
