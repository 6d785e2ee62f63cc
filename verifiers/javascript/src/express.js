/** Middleware for Express, and for all that call `(request, response, next)`. */

import { VerificationError, bearerToken } from './errors.js'

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
export function requireToken(verifier, ...permissions) {
  return async (request, response, next) => {
    try {
      const token = bearerToken(request.headers.authorization)
      request.claims = await verifier.verify(token, ...permissions)
    } catch (error) {
      if (!(error instanceof VerificationError)) return next(error)
      response.writeHead(error.status, { ...error.headers, 'Content-Type': 'application/json' })
      response.end(JSON.stringify({ detail: error.detail }))
      return
    }
    next()
  }
}
