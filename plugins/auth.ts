import { createPublicKey } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { createVerifier, TokenError, type DecodedJwt } from 'fast-jwt'
import fp from 'fastify-plugin'
import buildGetJwks from 'get-jwks'
import { notStarted, Problem } from './errors.ts'
import type { FastifyBaseLogger, FastifyRequest, onRequestHookHandler } from 'fastify'

export type AuthOptions = { secret: string } | { jwksUrl: string }
export type Scope = 'orders' | 'staff' | 'refunds'

declare module 'fastify' {
  interface FastifyInstance {
    /** A hook: lets a request pass whose token holds one of the scopes. */
    allow (...scopes: Scope[]): onRequestHookHandler
  }
  interface FastifyRequest {
    /** The token's `sub`; empty before it was checked. */
    customer: string
    staff: boolean
  }
}

/** JWT bearer: who asks, and what they may. The token is checked where a route says whom it allows. */
export default fp<AuthOptions>(async (app, options) => {
  const identify = 'secret' in options ? bySecret(options.secret) : byIssuer(options.jwksUrl, app.log)

  app.decorateRequest('customer', '')
  app.decorateRequest('staff', false)
  app.decorate('allow', (...scopes: Scope[]) => {
    function admit (request: FastifyRequest, { customer, held }: Identity): void {
      if (!scopes.some(scope => held.has(scope))) {
        throw new Problem('forbidden', `This takes a token with the scope ${scopes.join(' or ')}.`, { headers: { 'www-authenticate': `Bearer error="insufficient_scope", scope="${scopes.join(' ')}"` } })
      }
      request.customer = customer
      request.staff = held.has('staff')
    }
    return (request, _reply, done) => {
      const identity = identify(request.headers.authorization)
      if (identity instanceof Promise) {
        identity.then(known => admit(request, known)).then(() => done(), done)
      } else {
        admit(request, identity)
        done()
      }
    }
  })
}, { name: 'auth', fastify: '5.x' })

interface Identity {
  customer: string
  held: Set<string>
}

type Identify = (authorization: string | undefined) => Identity | Promise<Identity>

// In both, the algorithms are pinned: a public key must never be taken for a shared secret.

/** Headers known at once, at most, and for how long at most, in ms. */
const knownMax = 10_000
const knownForMs = 600_000

function bySecret (secret: string): Identify {
  const verify = createVerifier({ key: secret, algorithms: ['HS256'] })
  // The library's own cache hashes each token to look it up, which costs half as much as to verify it.
  const known = new Map<string, { identity: Identity, untilMs: number }>()
  return (authorization = '') => {
    const hit = known.get(authorization)
    if (hit !== undefined && Date.now() < hit.untilMs) return hit.identity
    const token = tokenOf(authorization)
    let claims: { exp?: number, sub?: unknown, scope?: unknown }
    try {
      claims = verify(token) as typeof claims
    } catch {
      known.delete(authorization)
      throw invalidToken()
    }
    const identity = identityOf(claims)
    if (known.size >= knownMax) known.clear()
    known.set(authorization, { identity, untilMs: Math.min((claims.exp ?? Infinity) * 1_000, Date.now() + knownForMs) })
    return identity
  }
}

function byIssuer (jwksUrl: string, log: FastifyBaseLogger): Identify {
  // Not cached: a key that the issuer has withdrawn opens nothing any more.
  const verify = createVerifier({ key: publicKeysOf(jwksUrl, log), algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'] })
  return async (authorization = '') => {
    const token = tokenOf(authorization)
    let claims: object
    try {
      claims = await verify(token) as object
    } catch (error) {
      throw error instanceof TokenError && error.originalError instanceof Problem ? error.originalError : invalidToken()
    }
    return identityOf(claims)
  }
}

/** RFC 6750 section 2.1. */
function tokenOf (authorization: string): string {
  if (authorization === '') throw unauthenticated('The request has no token: send Authorization: Bearer <token>.')
  const token = /^Bearer +([^ ]+)$/i.exec(authorization)?.[1]
  if (token === undefined) throw invalidToken()
  return token
}

function identityOf (claims: { sub?: unknown, scope?: unknown }): Identity {
  const { sub, scope } = claims
  if (typeof sub !== 'string' || !customerPattern.test(sub)) throw unauthenticated('The token names no customer in its claim sub.')
  // RFC 8693 section 4.2 has one string with spaces; many issuers send a list.
  const held = new Set(typeof scope === 'string' ? scope.split(' ') : Array.isArray(scope) ? scope.map(String) : [])
  return { customer: sub, held }
}

/** No control characters and no lone surrogates, which Postgres would not store. */
export const customerPattern = /^[^\p{Cc}\p{Cs}]{1,255}$/u

function invalidToken (): Problem {
  return unauthenticated('The token is not valid, or no longer.')
}

function unauthenticated (detail: string): Problem {
  return new Problem('unauthenticated', detail, { headers: { 'www-authenticate': 'Bearer' } })
}

/** How long the issuer may take to give its keys, in ms. */
const keysTimeoutMs = 5_000

/** The issuer's keys, fetched when first needed and kept; a key not known is looked for again. */
function publicKeysOf (jwksUrl: string, log: FastifyBaseLogger) {
  const { origin, pathname, search } = new URL(jwksUrl)
  const keys = buildGetJwks({ jwksPath: pathname + search })
  return async ({ header: { kid, alg } }: DecodedJwt): Promise<string> => {
    if (kid === undefined) throw new Error('The token names no key')
    const timer = new AbortController()
    const jwk = await Promise.race([
      keys.getJwk({ kid, alg, domain: origin }).catch((error: unknown) => {
        if (error instanceof Error && 'code' in error && error.code === 'JWK_NOT_FOUND') throw error
        log.warn({ err: error }, 'The keys of the issuer could not be fetched.')
        throw keysUnavailable()
      }),
      delay(keysTimeoutMs, undefined, { signal: timer.signal }).then(() => { throw keysUnavailable() })
    ]).finally(() => timer.abort())
    // Not getPublicKey(), which knows no Ed25519.
    return createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' }).toString()
  }
}

/** Not a 401: the token may be good, and a client would throw it away. */
function keysUnavailable (): Problem {
  return notStarted('The token could not be checked: the keys of its issuer cannot be fetched.')
}
