/** A service that follows a script. It serves the feed, keys and introspection, or misbehaves. */

import { createServer } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

import { SignJWT, decodeJwt, exportJWK, generateKeyPair } from 'jose'

import { Verifier } from '../src/index.js'

export const ISSUER = 'https://auth.example.com'
export const AUDIENCE = 'orders'

/** `faults` has a function for each route that is broken, which answers instead of it. */
export class ScriptedService {
  boundMs = 500
  maxAge = 300
  faults = {}
  requests = []
  connections = 0
  active = true
  #revoked = []
  #changed = []
  #keys = new Map()
  #tokens = 0
  #verifiers = []

  static async start() {
    const service = new ScriptedService()
    await service.addKey('key-1')
    service.server = createServer((request, response) => service.#serve(request, response))
    service.server.on('connection', () => service.connections++)
    await new Promise((resolve) => service.server.listen(0, '127.0.0.1', resolve))
    service.url = `http://127.0.0.1:${service.server.address().port}`
    return service
  }

  async stop() {
    for (const verifier of this.#verifiers) await verifier.close()
    this.server.closeAllConnections()
    this.server.close()
  }

  /** Makes a verifier with a bound that passes soon. */
  newVerifier(settings) {
    const verifier = new Verifier({
      issuer: ISSUER,
      audience: AUDIENCE,
      clientId: 'orders',
      clientSecret: 'secret',
      url: this.url,
      maxStaleness: 1,
      log: () => {},
      ...settings,
    })
    this.#verifiers.push(verifier)
    return verifier
  }

  async addKey(kid) {
    this.#keys.set(kid, await generateKeyPair('ES256'))
  }

  revoke(id) {
    this.#revoked.push([id, Math.floor(Date.now() / 1000) + 3600])
    this.#changed.splice(0).forEach((wake) => wake())
  }

  issue(claims = {}, kid = 'key-1') {
    const ids = { sub: 'user-1', sid: 'session-1', jti: `token-${++this.#tokens}` }
    return new SignJWT({ ...ids, iss: ISSUER, aud: [ISSUER, AUDIENCE], scope: 'orders:read', ...claims })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid })
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(this.#keys.get(kid).privateKey)
  }

  async jwks() {
    const keys = []
    for (const [kid, { publicKey }] of this.#keys) {
      keys.push({ ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' })
    }
    return { keys }
  }

  async feed({ nonce, cursor, wait }) {
    const arrived = performance.now()
    const seen = Number(cursor ?? 0)
    if (cursor !== undefined && this.#revoked.length <= seen) {
      await Promise.race([new Promise((wake) => this.#changed.push(wake)), delay(wait * 1000)])
    }
    return {
      nonce,
      cursor: String(this.#revoked.length),
      age_ms: Math.ceil(arrived - performance.now()),
      now: Math.floor(Date.now() / 1000),
      bound_ms: this.boundMs,
      complete: cursor === undefined,
      revoked: this.#revoked.slice(seen),
    }
  }

  async #serve(request, response) {
    const { pathname, searchParams } = new URL(request.url, this.url)
    this.requests.push({ path: pathname, headers: request.headers })
    const query = Object.fromEntries(searchParams)
    const fault = this.faults[pathname]
    if (fault !== undefined) return await fault(response, query)
    if (pathname === '/revocations') return answer(response, await this.feed(query))
    if (pathname !== '/oauth/introspect') {
      return answer(response, await this.jwks(), { 'Cache-Control': `public, max-age=${this.maxAge}` })
    }
    let body = ''
    for await (const chunk of request) body += chunk
    const { jti } = decodeJwt(new URLSearchParams(body).get('token'))
    answer(response, this.active ? { active: true, jti } : { active: false })
  }
}

export function answer(response, body, headers = {}, status = 200) {
  response.writeHead(status, { 'Content-Type': 'application/json', ...headers })
  response.end(JSON.stringify(body))
}

export const refuse = (status, headers) => (response) =>
  answer(response, { msg: 'no' }, headers, status)

export const cut = (response) => response.destroy()

/** Answers nothing. */
export const stall = () => {}

/** Answers a byte at a time, without an end. */
export const trickle = (response) => {
  response.writeHead(200)
  const timer = setInterval(() => response.write(' '), 10)
  response.on('close', () => clearInterval(timer))
}

/** Answers like a cache that ignores the query. */
export function repeatFirstReply(service) {
  let reply
  return async (response, query) => answer(response, (reply ??= await service.feed(query)))
}

export async function eventually(condition, seconds = 10) {
  const deadline = performance.now() + seconds * 1000
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error('timed out')
    await delay(5)
  }
}
