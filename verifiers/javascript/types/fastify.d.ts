/** @import { Claims } from './tokens.js' */
/** @import { Verifier } from './verifier.js' */
/**
 * Request and reply of Fastify, as far as the hook uses them.
 *
 * @typedef {{ headers: { authorization?: string }, claims?: Claims }} FastifyRequest
 * @typedef {{ code(status: number): FastifyReply, headers(values: object): FastifyReply, send(body: unknown): FastifyReply }} FastifyReply
 */
/**
 * Returns an `onRequest` hook that lets requests pass whose bearer has the permissions, with
 * `claims` set.
 *
 * @param {Verifier} verifier
 * @param {...string} permissions
 * @returns {(request: any, reply: any) => Promise<unknown>}
 */
export function requireToken(verifier: Verifier, ...permissions: string[]): (request: any, reply: any) => Promise<unknown>;
/**
 * Request and reply of Fastify, as far as the hook uses them.
 */
export type FastifyRequest = {
    headers: {
        authorization?: string;
    };
    claims?: Claims;
};
/**
 * Request and reply of Fastify, as far as the hook uses them.
 */
export type FastifyReply = {
    code(status: number): FastifyReply;
    headers(values: object): FastifyReply;
    send(body: unknown): FastifyReply;
};
import type { Verifier } from './verifier.js';
import type { Claims } from './tokens.js';
