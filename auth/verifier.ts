import { createVerifier, TokenError, type Algorithm } from 'fast-jwt'

/** How far the issuer's clock and this one may be apart, in ms. */
export const leewayMs = 30_000

/** Whose tokens are good, and for whom they are made; undefined: that is not asked. */
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

/** The algorithms are pinned by each key: a public key must never be taken for a shared secret (RFC 8725 section 3.1). */
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
    // Not by the library, which knows one type and takes no token without it.
    if (typ !== undefined && !isAccessTokenType(typ)) throw new TokenError(TokenError.codes.invalidType, 'The token is of another type.')
    return payload
  }
}

/** RFC 8725 section 3.11 and RFC 9068 section 4: an ID token or a logout token of the same issuer opens nothing. */
function isAccessTokenType (typ: unknown): boolean {
  return typeof typ === 'string' && /^(application\/)?(at\+)?jwt$/i.test(typ)
}
