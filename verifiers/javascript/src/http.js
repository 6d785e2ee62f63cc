/**
 * Requests to the service, with `fetch`.
 *
 * It follows no redirect and keeps no cache: nothing else answers for the service.
 */

import { isIP } from 'node:net'

/** Largest body, decompressed. A revocation takes some 52 bytes. */
const MAX_BODY = 256 * 1024 * 1024
/** Longest time for a whole reply, in seconds. */
const REPLY_TIMEOUT = 60

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
   * The head has to arrive within `timeout` seconds.
   *
   * @param {string} path
   * @param {{ timeout: number, withCredentials?: boolean, form?: URLSearchParams, signal?: AbortSignal }} options
   * @returns {Promise<{ headers: Headers, body: any }>}
   * @throws {RequestFailed}
   */
  async request(path, { timeout, withCredentials = false, form, signal }) {
    const route = path.split('?', 1)[0]
    const overdue = new AbortController()
    const giveUp = () => overdue.abort(new Error('the service has not answered in time'))
    let timer = setTimeout(giveUp, timeout * 1000)
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
      clearTimeout(timer)
      timer = setTimeout(giveUp, REPLY_TIMEOUT * 1000)
      const text = await readText(reply)
      if (reply.status !== 200) {
        const retryAfter = Number(reply.headers.get('Retry-After')) || 0
        throw new RequestFailed(`${route} got ${reply.status}: ${text.slice(0, 200)}`, retryAfter)
      }
      return { headers: reply.headers, body: JSON.parse(text) }
    } catch (error) {
      if (error instanceof RequestFailed) throw error
      const { message, cause } = /** @type {Error} */ (error)
      throw new RequestFailed(`failed to read ${route}: ${cause ?? message}`)
    } finally {
      clearTimeout(timer)
    }
  }
}

/**
 * @param {Response} reply
 * @returns {Promise<string>}
 */
async function readText(reply) {
  const chunks = []
  let length = 0
  const body = /** @type {AsyncIterable<Uint8Array> | null} */ (/** @type {unknown} */ (reply.body))
  for await (const chunk of body ?? []) {
    length += chunk.length
    if (length > MAX_BODY) throw new RequestFailed('the reply is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

/** @param {string} hostname */
function isLoopback(hostname) {
  if (hostname === 'localhost' || hostname === '[::1]') return true
  return isIP(hostname) === 4 && hostname.startsWith('127.')
}
