/** Reasons not to accept a token. */

/** A token was not accepted. `status`, `headers` and `detail` are for the reply to give. */
export class VerificationError extends Error {
  status = 401
  /** @type {Record<string, string>} */
  headers = { 'WWW-Authenticate': 'Bearer error="invalid_token"' }
  name = this.constructor.name

  /** Reason, as far as the client may know it. */
  get detail() {
    return this.message
  }
}

/** The request has no bearer token. */
export class TokenMissing extends VerificationError {
  /** @type {Record<string, string>} */
  headers = { 'WWW-Authenticate': 'Bearer' }
}

/** The token is malformed, forged, expired, or for another API. */
export class TokenInvalid extends VerificationError {}

/** The token, its session or its key was revoked. */
export class TokenRevoked extends TokenInvalid {}

/** The token is good, but lacks a permission that the request needs. */
export class PermissionMissing extends VerificationError {
  status = 403
  /** @type {Record<string, string>} */
  headers = { 'WWW-Authenticate': 'Bearer error="insufficient_scope"' }
}

/**
 * The verifier cannot know whether the token was revoked. A later attempt may succeed.
 *
 * The message has the cause, which is logged; `detail` has not.
 */
export class Unavailable extends VerificationError {
  status = 503
  /** @type {Record<string, string>} */
  headers = { 'Retry-After': '1' }

  /** A text that says nothing of the internal network. */
  get detail() {
    return 'tokens cannot be verified at the moment'
  }
}

/**
 * Returns the token of the header `Authorization` (RFC 6750 section 2.1).
 *
 * @param {string | undefined} authorization
 * @returns {string}
 * @throws {TokenMissing}
 */
export function bearerToken(authorization) {
  const token = /^bearer +(\S+) *$/i.exec(authorization ?? '')?.[1]
  if (token === undefined) throw new TokenMissing('the request has no bearer token')
  return token
}
