/** Verifies access tokens of Portcullis offline, and refuses them soon after a logout. */

export {
  PermissionMissing,
  TokenInvalid,
  TokenMissing,
  TokenRevoked,
  Unavailable,
  VerificationError,
  bearerToken,
} from './errors.js'
export { Verifier } from './verifier.js'

/** @typedef {import('./tokens.js').Claims} Claims */
/** @typedef {import('./verifier.js').Settings} Settings */
