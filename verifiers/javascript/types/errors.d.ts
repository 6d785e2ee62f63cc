/**
 * Returns the token of the header `Authorization` (RFC 6750 section 2.1).
 *
 * @param {string | undefined} authorization
 * @returns {string}
 * @throws {TokenMissing}
 */
export function bearerToken(authorization: string | undefined): string;
/** Reasons not to accept a token. */
/** A token was not accepted. `status`, `headers` and `detail` are for the reply to give. */
export class VerificationError extends Error {
    status: number;
    /** @type {Record<string, string>} */
    headers: Record<string, string>;
    /** Reason, as far as the client may know it. */
    get detail(): string;
}
/** The request has no bearer token. */
export class TokenMissing extends VerificationError {
}
/** The token is malformed, forged, expired, or for another API. */
export class TokenInvalid extends VerificationError {
}
/** The token, its session or its key was revoked. */
export class TokenRevoked extends TokenInvalid {
}
/** The token is good, but lacks a permission that the request needs. */
export class PermissionMissing extends VerificationError {
}
/**
 * The verifier cannot know whether the token was revoked. A later attempt may succeed.
 *
 * The message has the cause, which is logged; `detail` has not.
 */
export class Unavailable extends VerificationError {
}
