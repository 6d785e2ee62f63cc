export { Verifier } from "./verifier.js";
export type Claims = import("./tokens.js").Claims;
export type Settings = import("./verifier.js").Settings;
export { PermissionMissing, TokenInvalid, TokenMissing, TokenRevoked, Unavailable, VerificationError, bearerToken } from "./errors.js";
