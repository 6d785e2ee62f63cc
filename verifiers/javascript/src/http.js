/**
 * Requests to the service, with `fetch`.
 *
 * It follows no redirect and keeps no cache: nothing else answers for the service.
 */

import { isIP } from 'node:net'

/** Largest body, decompressed. A revocation takes some 52 bytes. */
const MAX_BODY = 256 * 1024 * 1024

/** The service did not answer, or not with 200. */
export class RequestFailed extends Error {
  name = 'RequestFailed'

  /**
   * @param {string} message
   * @param {number} [retryAfter]
   */
  constructor(message, retryAfter = 0) {
    super(message)
    this.retryAfter = retryAfter
  }
}

/** Address of the service, and the credentials of this client. */
export class Service {
  #url
  #authorization

  /**
   * @param {string} url
   * @param {string} clientId
   * @param {string} clientSecret
   */
  constructor(url, clientId, clientSecret) {
    const { protocol, hostname } = new URL(url)
    if (protocol !== 'https:' && !(protocol === 'http:' && isLoopback(hostname))) {
      throw new TypeError(`${url} needs https: only on loopback is http secure`)
    }
    this.#url = url.replace(/\/$/, '')
    this.#authorization = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`
  }

  /**
   * Sends a GET, or a POST of a form, and returns the JSON of the reply.
   *
   * The head has to arrive within `headTimeout` seconds, the whole reply within `timeout`.
   *
   * @param {string} path
   * @param {{ timeout: number, headTimeout?: number, withCredentials?: boolean,
   *   form?: URLSearchParams, signal?: AbortSignal, parse?: (pieces: string[]) => any }} options
   * @returns {Promise<{ headers: Headers, body: any }>}
   * @throws {RequestFailed}
   */
  async request(path, options) {
    const { timeout, headTimeout = timeout, withCredentials = false, form, signal } = options
    const { parse = (pieces) => JSON.parse(pieces.join('')) } = options
    const route = path.split('?', 1)[0]
    const overdue = new AbortController()
    const giveUp = () => overdue.abort(new Error('the service has not answered in time'))
    const headTimer = setTimeout(giveUp, headTimeout * 1000)
    const timer = setTimeout(giveUp, timeout * 1000)
    try {
      const reply = await fetch(this.#url + path, {
        method: form === undefined ? 'GET' : 'POST',
        headers: {
          'Cache-Control': 'no-cache, no-store',
          ...(withCredentials && { Authorization: this.#authorization }),
        },
        body: form ?? null,
        redirect: 'manual',
        signal: signal === undefined ? overdue.signal : AbortSignal.any([overdue.signal, signal]),
      })
      clearTimeout(headTimer)
      const pieces = await readPieces(reply)
      if (reply.status !== 200) {
        const retryAfter = Number(reply.headers.get('Retry-After')) || 0
        throw new RequestFailed(`${route} got ${reply.status}: ${pieces.join('').slice(0, 200)}`, retryAfter)
      }
      return { headers: reply.headers, body: parse(pieces) }
    } catch (error) {
      if (error instanceof RequestFailed) throw error
      const { message, cause } = /** @type {Error} */ (error)
      throw new RequestFailed(`failed to read ${route}: ${cause ?? message}`)
    } finally {
      clearTimeout(headTimer)
      clearTimeout(timer)
    }
  }
}

/**
 * Reads a body as text, in the pieces in which it arrives.
 *
 * @param {Response} reply
 * @returns {Promise<string[]>}
 */
async function readPieces(reply) {
  const decoder = new TextDecoder()
  const pieces = []
  let length = 0
  const body = /** @type {AsyncIterable<Uint8Array> | null} */ (/** @type {unknown} */ (reply.body))
  for await (const chunk of body ?? []) {
    length += chunk.length
    if (length > MAX_BODY) throw new RequestFailed('the reply is too large')
    pieces.push(decoder.decode(chunk, { stream: true }))
  }
  return pieces
}

/** @param {string} hostname */
function isLoopback(hostname) {
  if (hostname === 'localhost' || hostname === '[::1]') return true
  return isIP(hostname) === 4 && hostname.startsWith('127.')
}
