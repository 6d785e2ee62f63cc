/** @import { IncomingMessage, ServerResponse } from 'node:http' */
/** @import { Claims } from './tokens.js' */
/** @import { Verifier } from './verifier.js' */
/**
 * Returns middleware that lets requests pass whose bearer has the permissions, with `claims` set.
 *
 * @param {Verifier} verifier
 * @param {...string} permissions
 * @returns {(request: IncomingMessage & { claims?: Claims }, response: ServerResponse, next: (error?: unknown) => void) => Promise<void>}
 */
export function requireToken(verifier: Verifier, ...permissions: string[]): (request: IncomingMessage & {
    claims?: Claims;
}, response: ServerResponse, next: (error?: unknown) => void) => Promise<void>;
import type { Verifier } from './verifier.js';
import type { IncomingMessage } from 'node:http';
import type { Claims } from './tokens.js';
import type { ServerResponse } from 'node:http';
