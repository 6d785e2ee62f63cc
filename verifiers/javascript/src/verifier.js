/** `Verifier`: decides whether a token may be accepted. */

import { systemClock } from './clock.js'
import { PermissionMissing, TokenInvalid, TokenRevoked, Unavailable } from './errors.js'
import { Follower } from './follower.js'
import { RequestFailed, Service } from './http.js'
import { KeySet } from './keys.js'
import { Receiver } from './receiver.js'
import { TokenRules } from './tokens.js'

/** @import { Claims } from './tokens.js' */

/** Shortest time between two lines about tokens that could not be verified, in seconds. */
const LOG_INTERVAL = 1
/** Longest wait for an introspection, in seconds. */
const INTROSPECTION_TIMEOUT = 2
/** Longest wait of a token for the first read, in seconds. */
const FIRST_READ_TIMEOUT = 2
/** The service keeps a revocation for so much longer than its tokens live, in seconds. */
const LARGEST_LEEWAY = 60

/** The key of a token is not known. */
class UnknownKey extends Error {}

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
  #rules
  #service
  #receiver
  #follower
  #introspects
  #log
  #loggedAt = -Infinity
  #counters = { accepted: 0, invalid: 0, revoked: 0, forbidden: 0, unavailable: 0, introspections: 0 }

  /** @param {Settings} settings */
  constructor({
    issuer,
    audience,
    clientId,
    clientSecret,
    maxStaleness = 10,
    leeway = 5,
    introspect = false,
    url = issuer,
    secret,
    log = console.warn,
  }) {
    if (!(maxStaleness > 0)) throw new TypeError('maxStaleness has to be positive')
    if (!(leeway >= 0 && leeway <= LARGEST_LEEWAY)) {
      throw new TypeError(`leeway has to be from 0 to ${LARGEST_LEEWAY} s`)
    }
    if (!issuer || !audience) throw new TypeError('issuer and audience are required')
    const keys = secret === undefined ? undefined : KeySet.fromSecret(secret, systemClock())
    this.#rules = new TokenRules(issuer, audience, leeway, keys ? 'HS256' : 'ES256')
    this.#service = new Service(url, clientId, clientSecret)
    this.#receiver = new Receiver(maxStaleness, leeway, systemClock)
    this.#follower = new Follower(this.#service, this.#receiver, systemClock, maxStaleness, keys, log)
    this.#introspects = introspect
    this.#log = log
  }

  /**
   * Starts to follow, and waits for the first complete read and the keys.
   *
   * @param {number} timeout In seconds.
   * @returns {Promise<void>}
   * @throws {Unavailable} The time is over; the message has the cause.
   */
  async waitUntilReady(timeout) {
    this.#follower.start()
    /** @type {NodeJS.Timeout | undefined} */
    let timer
    const overdue = new Promise((_, reject) => {
      timer = setTimeout(() => {
        const problem = this.#follower.problem ?? 'the service has not answered'
        reject(new Unavailable(`not ready after ${timeout} s: ${problem}`))
      }, timeout * 1000)
    })
    await Promise.race([this.#follower.ready, overdue]).finally(() => clearTimeout(timer))
  }

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
  async verify(token, ...permissions) {
    try {
      const claims = await this.#verify(token)
      requirePermissions(claims, permissions)
      this.#counters.accepted++
      return claims
    } catch (error) {
      this.#count(error)
      throw error
    }
  }

  /** Age of what is known, in seconds; infinite before the first complete read. */
  get staleness() {
    return this.#receiver.staleness
  }

  /** Counts since the start, for your metrics. */
  get counters() {
    return { ...this.#counters, ...this.#follower.counters, revocations: this.#receiver.size }
  }

  /** Stops following. From `maxStaleness` on, `verify` throws `Unavailable`. */
  async close() {
    await this.#follower.close()
  }

  /**
   * @param {string} token
   * @returns {Promise<Claims>}
   */
  async #verify(token) {
    if (!this.#follower.hasTried) {
      // Otherwise the first tokens after the start would be refused.
      this.#follower.start()
      await this.#follower.waitUntilTried(FIRST_READ_TIMEOUT)
    }
    const { claims, key, keys } = await this.#verifySignature(token)
    const verdict = this.#receiver.check([claims.jti, claims.sid, key.revocationId])
    if (verdict === 'revoked') throw new TokenRevoked('the token was revoked')
    // A revocation of a key is forgotten when no verifier holds the key any longer.
    if (verdict === 'unknown' || !keys.isFresh(systemClock())) {
      await this.#introspect(token, claims.jti)
    }
    return claims
  }

  /** @param {string} token */
  async #verifySignature(token) {
    try {
      return await this.#verifyWith(this.#follower.keys, token)
    } catch (error) {
      if (!(error instanceof UnknownKey)) throw error
    }
    // The key may be new.
    await this.#follower.readKeysAgain().catch((error) => {
      throw new Unavailable(error.message)
    })
    return await this.#verifyWith(this.#follower.keys, token).catch((error) => {
      throw error instanceof UnknownKey ? new TokenInvalid('the key of the token is unknown') : error
    })
  }

  /**
   * @param {KeySet | undefined} keys
   * @param {string} token
   */
  async #verifyWith(keys, token) {
    if (keys === undefined) throw new UnknownKey()
    const verified = await this.#rules.verify(token, (kid) => {
      const key = keys.find(kid)
      if (key === undefined) throw new UnknownKey()
      return key
    })
    return { ...verified, keys }
  }

  /**
   * Asks the service about a token whose signature and claims are good.
   *
   * @param {string} token
   * @param {string} id
   */
  async #introspect(token, id) {
    if (!this.#introspects) {
      const problem = this.#follower.problem ?? 'no reply of the revocation feed'
      throw new Unavailable(`what is known is ${this.staleness.toFixed(1)} s old: ${problem}`)
    }
    const sent = systemClock()
    const { body } = await this.#service
      .request('/oauth/introspect', {
        timeout: INTROSPECTION_TIMEOUT,
        withCredentials: true,
        form: new URLSearchParams({ token }),
      })
      .catch((error) => {
        throw new Unavailable(`failed to introspect: ${error.message}`)
      })
    this.#counters.introspections++
    if (body?.active !== false && (body?.active !== true || body.jti !== id)) {
      throw new Unavailable('failed to introspect: the reply is malformed')
    }
    if (!this.#receiver.introspectionCounts(sent)) {
      throw new Unavailable('failed to introspect: the reply came too late')
    }
    if (!body.active) throw new TokenRevoked('the token was revoked')
  }

  /** @param {unknown} error */
  #count(error) {
    if (error instanceof TokenRevoked) this.#counters.revoked++
    else if (error instanceof TokenInvalid) this.#counters.invalid++
    else if (error instanceof PermissionMissing) this.#counters.forbidden++
    else {
      this.#counters.unavailable++
      this.#logFailure(/** @type {Error} */ (error))
    }
  }

  /** @param {Error} error */
  #logFailure(error) {
    const now = systemClock().monotonic
    if (now - this.#loggedAt < LOG_INTERVAL) return
    this.#loggedAt = now
    this.#log(`failed to verify a token: ${error.message}`)
  }
}

/**
 * @param {Claims} claims
 * @param {string[]} permissions
 */
function requirePermissions({ scope }, permissions) {
  if (permissions.length === 0) return
  const granted = typeof scope === 'string' ? scope.split(' ') : []
  if (!permissions.every((permission) => granted.includes(permission))) {
    throw new PermissionMissing(`the token needs the permission ${permissions.join(' ')}`)
  }
}
