import { createSigner } from 'fast-jwt'
import type { Expected } from './verifier.ts'

export { localSecret } from './local-secret.ts'

export interface TokenOptions extends Expected {
  secret: string
  /** The customer. */
  sub: string
  staff?: boolean
  /** Whether the token allows refunds. */
  refunds?: boolean
  /** How long the token is valid, in ms. */
  expiresInMs?: number
}

/** A token as an issuer would give it: with the scope `orders`, and `staff` and `refunds` if asked for. */
export function signToken ({ secret, sub, staff = false, refunds = false, issuer, audience, expiresInMs = 24 * 60 * 60 * 1_000 }: TokenOptions): string {
  const named = { ...issuer !== undefined && { iss: issuer }, ...audience !== undefined && { aud: [...audience] } }
  return createSigner({ key: secret, algorithm: 'HS256', expiresIn: expiresInMs, ...named })({ sub, scope: ['orders', ...staff ? ['staff'] : [], ...refunds ? ['refunds'] : []].join(' ') })
}
