/**
 * Settings of a verifier.
 *
 * - `issuer`: `PUBLIC_URL` of the service.
 * - `audience`: name of your API in `JWT_AUDIENCE`.
 * - `clientId`, `clientSecret`: those of a client with the permission `revocations:read`.
 * - `maxStaleness`: a token is accepted no later than this after its revocation was committed, in
 *   seconds (10); at least twice the `REVOCATION_MAX_STALENESS` of the service.
 * - `leeway`: added to the times in the token, in seconds (5); at most 60.
 * - `introspect`: ask the service about tokens while the memory is too old. The client needs
 *   `tokens:introspect` as well.
 * - `url`: where the service is reached, if not at its issuer.
 * - `secret`: `JWT_SECRET_KEY` of a service that signs with HS256.
 * - `log`: gets a line when the feed fails, when it works again, and when tokens cannot be verified
 *   (`console.warn`).
 *
 * @typedef {{ issuer: string, audience: string, clientId: string, clientSecret: string,
 *   maxStaleness?: number, leeway?: number, introspect?: boolean, url?: string, secret?: string,
 *   log?: (message: string) => void }} Settings
 */
/** Verifies access tokens offline, and follows the revocation feed. */
export class Verifier {
    /** @param {Settings} settings */
    constructor({ issuer, audience, clientId, clientSecret, maxStaleness, leeway, introspect, url, secret, log, }: Settings);
    /**
     * Starts to follow, and waits for the first complete read and the keys.
     *
     * @param {number} timeout In seconds.
     * @returns {Promise<void>}
     * @throws {Unavailable} The time is over; the message has the cause.
     */
    waitUntilReady(timeout: number): Promise<void>;
    /**
     * Returns the claims of a token that is good and has the permissions.
     *
     * It does no I/O, unless the key is unknown or the memory too old. The first tokens wait for the
     * first read, for up to 2 s.
     *
     * @param {string} token
     * @param {...string} permissions
     * @returns {Promise<Claims>}
     * @throws {TokenInvalid | TokenRevoked | PermissionMissing | Unavailable}
     */
    verify(token: string, ...permissions: string[]): Promise<Claims>;
    /** Age of what is known, in seconds; infinite before the first complete read. */
    get staleness(): number;
    /** Counts since the start, for your metrics. */
    get counters(): {
        revocations: number;
        reads: number;
        completeReads: number;
        entries: number;
        keyReads: number;
        failures: number;
        accepted: number;
        invalid: number;
        revoked: number;
        forbidden: number;
        unavailable: number;
        introspections: number;
    };
    /** Stops following. From `maxStaleness` on, `verify` throws `Unavailable`. */
    close(): Promise<void>;
    #private;
}
/**
 * Settings of a verifier.
 *
 * - `issuer`: `PUBLIC_URL` of the service.
 * - `audience`: name of your API in `JWT_AUDIENCE`.
 * - `clientId`, `clientSecret`: those of a client with the permission `revocations:read`.
 * - `maxStaleness`: a token is accepted no later than this after its revocation was committed, in
 *   seconds (10); at least twice the `REVOCATION_MAX_STALENESS` of the service.
 * - `leeway`: added to the times in the token, in seconds (5); at most 60.
 * - `introspect`: ask the service about tokens while the memory is too old. The client needs
 *   `tokens:introspect` as well.
 * - `url`: where the service is reached, if not at its issuer.
 * - `secret`: `JWT_SECRET_KEY` of a service that signs with HS256.
 * - `log`: gets a line when the feed fails, when it works again, and when tokens cannot be verified
 *   (`console.warn`).
 */
export type Settings = {
    issuer: string;
    audience: string;
    clientId: string;
    clientSecret: string;
    maxStaleness?: number;
    leeway?: number;
    introspect?: boolean;
    url?: string;
    secret?: string;
    log?: (message: string) => void;
};
import type { Claims } from './tokens.js';
