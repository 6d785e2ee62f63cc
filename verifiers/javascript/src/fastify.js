/** A hook for Fastify. */

import { VerificationError, bearerToken } from './errors.js'

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
export function requireToken(verifier, ...permissions) {
  return async (/** @type {FastifyRequest} */ request, /** @type {FastifyReply} */ reply) => {
    try {
      const token = bearerToken(request.headers.authorization)
      request.claims = await verifier.verify(token, ...permissions)
      return undefined
    } catch (error) {
      if (!(error instanceof VerificationError)) throw error
      return reply.code(error.status).headers(error.headers).send({ detail: error.detail })
    }
  }
}
