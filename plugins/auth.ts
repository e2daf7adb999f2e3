import { createPublicKey } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import jwt, { type TokenOrHeader } from '@fastify/jwt'
import fp from 'fastify-plugin'
import buildGetJwks from 'get-jwks'
import { notStarted, Problem } from './errors.ts'
import type { FastifyRequest } from 'fastify'

export type AuthOptions = { secret: string } | { jwksUrl: string }
export type Scope = 'orders' | 'staff'

declare module 'fastify' {
  interface FastifyInstance {
    /** A hook: lets a request pass whose token holds one of the scopes. */
    allow (...scopes: Scope[]): (request: FastifyRequest) => Promise<void>
  }
  interface FastifyRequest {
    /** The token's `sub`; empty before it was checked. */
    customer: string
    staff: boolean
  }
}

/** JWT bearer: who asks, and what they may. The token is checked where a route says whom it allows. */
export default fp<AuthOptions>(async (app, options) => {
  // The algorithms are pinned: a public key must never be taken for a shared secret.
  await app.register(jwt, 'secret' in options
    ? { secret: options.secret, verify: { algorithms: ['HS256'], cache: 10_000 } }
    : { secret: publicKeysOf(options.jwksUrl), decode: { complete: true }, verify: { algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'] } })

  app.decorateRequest('customer', '')
  app.decorateRequest('staff', false)
  app.decorate('allow', (...scopes: Scope[]) => async request => {
    const { customer, held } = await identify(request)
    if (!scopes.some(scope => held.has(scope))) {
      throw new Problem('forbidden', `This takes a token with the scope ${scopes.join(' or ')}.`, { headers: { 'www-authenticate': `Bearer error="insufficient_scope", scope="${scopes.join(' ')}"` } })
    }
    request.customer = customer
    request.staff = held.has('staff')
  })
}, { name: 'auth', fastify: '5.x' })

async function identify (request: FastifyRequest): Promise<{ customer: string, held: Set<string> }> {
  let claims: unknown
  try {
    claims = await request.jwtVerify()
  } catch (error) {
    if (error instanceof Problem) throw error
    throw unauthenticated(error instanceof Error && 'code' in error && error.code === 'FST_JWT_NO_AUTHORIZATION_IN_HEADER'
      ? 'The request has no token: send Authorization: Bearer <token>.'
      : 'The token is not valid, or no longer.')
  }
  const { sub, scope } = claims as { sub?: unknown, scope?: unknown }
  if (typeof sub !== 'string' || !customerPattern.test(sub)) throw unauthenticated('The token names no customer in its claim sub.')
  // RFC 8693 section 4.2 has one string with spaces; many issuers send a list.
  const held = new Set(typeof scope === 'string' ? scope.split(' ') : Array.isArray(scope) ? scope.map(String) : [])
  return { customer: sub, held }
}

// No control characters and no lone surrogates, which Postgres would not store.
const customerPattern = /^[^\p{Cc}\p{Cs}]{1,255}$/u

function unauthenticated (detail: string): Problem {
  return new Problem('unauthenticated', detail, { headers: { 'www-authenticate': 'Bearer' } })
}

/** How long the issuer may take to give its keys, in ms. */
const keysTimeoutMs = 5_000

/** The issuer's keys, fetched when first needed and kept; a key not known is looked for again. */
function publicKeysOf (jwksUrl: string) {
  const { origin, pathname, search } = new URL(jwksUrl)
  const keys = buildGetJwks({ jwksPath: pathname + search })
  return async (request: FastifyRequest, token: TokenOrHeader): Promise<string> => {
    const { kid, alg } = 'header' in token ? token.header : token
    if (kid === undefined) throw new Error('The token names no key')
    const timer = new AbortController()
    const jwk = await Promise.race([
      keys.getJwk({ kid, alg, domain: origin }).catch((error: unknown) => {
        if (error instanceof Error && 'code' in error && error.code === 'JWK_NOT_FOUND') throw error
        request.log.warn({ err: error }, 'The keys of the issuer could not be fetched.')
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
