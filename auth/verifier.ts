import { createVerifier, TokenError, type Algorithm } from 'fast-jwt'

/** The allowed difference between the issuer's clock and this one, in ms. */
export const leewayMs = 30_000

/** The issuer and the audience that a token must have; undefined: not checked. */
export interface Expected {
  issuer?: string | undefined
  audience?: readonly string[] | undefined
}

export interface Claims {
  sub?: unknown
  scope?: unknown
  /** In seconds since 1970. */
  exp: number
}

/** @throws TokenError */
export type Verify = (token: string) => Claims

interface Verified { header: { typ?: unknown }, payload: Claims }

/** Each key has its own algorithms, because a public key must never be used as a shared secret (RFC 8725 section 3.1). */
export function verifierOf (key: string, algorithms: Algorithm[], { issuer, audience }: Expected): Verify {
  const verify: (token: string) => Verified = createVerifier({
    key,
    algorithms,
    complete: true,
    clockTolerance: leewayMs,
    requiredClaims: ['exp', ...issuer === undefined ? [] : ['iss'], ...audience === undefined ? [] : ['aud']],
    ...issuer !== undefined && { allowedIss: issuer },
    ...audience !== undefined && { allowedAud: [...audience] }
  })
  return token => {
    const { header: { typ }, payload } = verify(token)
    // The library's own check allows only one type, and refuses a token without it.
    if (typ !== undefined && !isAccessTokenType(typ)) throw new TokenError(TokenError.codes.invalidType, 'The token has another type.')
    return payload
  }
}

/** RFC 8725 section 3.11 and RFC 9068 section 4: an ID token or a logout token of the same issuer gives no access. */
function isAccessTokenType (typ: unknown): boolean {
  return typeof typ === 'string' && /^(application\/)?(at\+)?jwt$/i.test(typ)
}
