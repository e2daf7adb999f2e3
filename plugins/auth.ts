import { createDecoder, type DecodedJwt } from 'fast-jwt'
import fp from 'fastify-plugin'
import { IssuerKeys, KeysUnavailable, type KeyTimes } from '../auth/issuer-keys.ts'
import { KnownTokens } from '../auth/known-tokens.ts'
import { leewayMs, verifierOf, type Claims, type Expected, type Verify } from '../auth/verifier.ts'
import { notStarted, Problem } from './errors.ts'
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'

export type AuthOptions = Expected & (SharedSecret | Issuer)

interface SharedSecret {
  secret: string
  /** Also accepted, while the secret is rotated. */
  previousSecret?: string | undefined
}

interface Issuer {
  jwksUrl: string
  keyTimes?: Partial<KeyTimes>
}

const scopes = ['orders', 'staff', 'refunds'] as const
export type Scope = typeof scopes[number]

declare module 'fastify' {
  interface FastifyInstance {
    /** A hook: lets a request pass if its token holds one of the scopes. */
    allow (...scopes: Scope[]): onRequestHookHandler
  }
  interface FastifyRequest {
    /** The token's `sub`; empty before it was checked. */
    customer: string
    staff: boolean
    /** When the token expires, with the leeway, in ms since 1970; 0 before it was checked. */
    tokenGoodUntilMs: number
  }
}

/** JWT bearer: who asks, and what they may do. A route that calls `allow` has the token checked. */
export default fp<AuthOptions>(async (app, options) => {
  const known = new KnownTokens<Identity>()
  const check = 'secret' in options ? bySecret(options, app, () => known.forgetAll()) : byIssuer(options, app, () => known.forgetAll())

  app.decorateRequest('customer', '')
  app.decorateRequest('staff', false)
  app.decorateRequest('tokenGoodUntilMs', 0)
  app.decorate('allow', (...allowed: Scope[]) => {
    function admit (request: FastifyRequest, { customer, held, goodUntilMs }: Identity): void {
      if (!allowed.some(scope => held.has(scope))) {
        throw new Problem('forbidden', `This needs a token with the scope ${allowed.join(' or ')}.`, { headers: { 'www-authenticate': `Bearer error="insufficient_scope", scope="${allowed.join(' ')}"` } })
      }
      request.customer = customer
      request.staff = held.has('staff')
      request.tokenGoodUntilMs = goodUntilMs
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

  // Synchronous if the token, or the key that signed it, is known.
  function identify (authorization = ''): Identity | Promise<Identity> {
    const token = tokenOf(authorization)
    const hit = check.knownAreGood() ? known.find(token) : undefined
    if (hit !== undefined) return hit
    const claims = check.claims(token)
    return claims instanceof Promise ? claims.then(claims => remember(token, claims)) : remember(token, claims)
  }

  function remember (token: string, claims: Claims): Identity {
    const identity = identityOf(claims)
    known.remember(token, identity)
    return identity
  }
}, { name: 'auth', fastify: '5.x', dependencies: ['settings'] })

interface Identity {
  customer: string
  held: ReadonlySet<Scope>
  goodUntilMs: number
}

interface Check {
  /** @throws Problem, also as a rejection */
  claims (token: string): Claims | Promise<Claims>
  /** Whether earlier verdicts on tokens still count. */
  knownAreGood (): boolean
}

/** @param onChange called when earlier verdicts on tokens no longer count */
function bySecret ({ secret, previousSecret, ...expected }: SharedSecret & Expected, app: FastifyInstance, onChange: () => void): Check {
  const verifiersOf = (keys: Array<string | undefined>): Verify[] => keys.flatMap(key => key === undefined ? [] : [verifierOf(key, ['HS256'], expected)])
  let keys = [secret, previousSecret]
  let verifiers = verifiersOf(keys)
  app.settings.onChange(({ auth }) => {
    const next = [auth.secret ?? secret, auth.previousSecret]
    if (next.join('\n') === keys.join('\n')) return
    keys = next
    verifiers = verifiersOf(keys)
    onChange()
  })
  return {
    claims (token) {
      for (const verify of verifiers) {
        try {
          return verify(token)
        } catch {}
      }
      throw invalidToken()
    },
    knownAreGood: () => true
  }
}

/** @param onChange called when earlier verdicts on tokens no longer count */
function byIssuer ({ jwksUrl, keyTimes, ...expected }: Issuer & Expected, app: FastifyInstance, onChange: () => void): Check {
  const keys = new IssuerKeys({ url: jwksUrl, expected, times: keyTimes, log: app.log, onChange })
  // Not awaited: the service starts even if the issuer hangs.
  app.addHook('onReady', async () => { void keys.refresh() })
  app.addHook('onClose', async () => keys.close())

  const decode: (token: string) => DecodedJwt = createDecoder({ complete: true })
  return {
    claims (token) {
      try {
        const { header: { alg, kid } } = decode(token)
        const verify = typeof alg === 'string' && typeof kid === 'string' ? keys.find(alg, kid) : undefined
        return verify instanceof Promise ? verify.then(found => claimsBy(found, token)).catch(refuse) : claimsBy(verify, token)
      } catch (error) {
        return refuse(error)
      }
    },
    knownAreGood: () => keys.areGood
  }
}

function claimsBy (verify: Verify | undefined, token: string): Claims {
  if (verify === undefined) throw invalidToken()
  return verify(token)
}

/** Without the keys this is no 401: the token may be valid, and a client would throw it away. */
function refuse (error: unknown): never {
  throw error instanceof KeysUnavailable ? notStarted("The token could not be checked: the issuer's keys cannot be fetched.") : invalidToken()
}

/** RFC 6750 section 2.1. */
function tokenOf (authorization: string): string {
  if (authorization === '') throw unauthenticated('The request has no token: send Authorization: Bearer <token>.')
  // The usual form, without the cost of a regular expression.
  if (authorization.startsWith('Bearer ') && authorization.length > 7 && !authorization.includes(' ', 7)) return authorization.slice(7)
  const token = /^Bearer +([^ ]+)$/i.exec(authorization)?.[1]
  if (token === undefined) throw invalidToken()
  return token
}

function identityOf ({ sub, scope, exp }: Claims): Identity {
  if (typeof sub !== 'string' || !customerPattern.test(sub)) throw unauthenticated('The token names no customer in its claim sub.')
  // RFC 8693 section 4.2: one string with spaces; many issuers send a list.
  const named: unknown[] = typeof scope === 'string' ? scope.split(' ') : Array.isArray(scope) ? scope : []
  // Only this service's scopes: a token may name any number of others, and the identity stays in the cache.
  return { customer: sub, held: new Set(scopes.filter(own => named.includes(own))), goodUntilMs: exp * 1_000 + leewayMs }
}

/** Excludes what Postgres cannot store: NUL, with the other control characters, and lone surrogates. */
export const customerPattern = /^[^\p{Cc}\p{Cs}]{1,255}$/u

function invalidToken (): Problem {
  return unauthenticated('The token is not valid, or it has expired.')
}

function unauthenticated (detail: string): Problem {
  return new Problem('unauthenticated', detail, { headers: { 'www-authenticate': 'Bearer' } })
}
