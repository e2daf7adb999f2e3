import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createSigner } from 'fast-jwt'
import type { Expected } from './verifier.ts'

export const localSecretFile = join(import.meta.dirname, '../.data/jwt-secret')

/** The secret of the embedded database's service: made once, readable by its owner alone, and worth nothing elsewhere. */
export function localSecret (file = localSecretFile): string {
  mkdirSync(dirname(file), { recursive: true })
  try {
    // Exclusive, so that of two first starts one makes it and both read the same.
    writeFileSync(file, randomBytes(32).toString('base64url'), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return readFileSync(file, 'utf8')
}

export interface TokenOptions extends Expected {
  secret: string
  /** The customer. */
  sub: string
  staff?: boolean
  /** Whether money may be given back with it. */
  refunds?: boolean
  /** How long it is good, in ms. */
  expiresInMs?: number
}

/** A token as an issuer would give it: the scope `orders`, and `staff` and `refunds` where they are asked for. */
export function signToken ({ secret, sub, staff = false, refunds = false, issuer, audience, expiresInMs = 24 * 60 * 60 * 1_000 }: TokenOptions): string {
  const named = { ...issuer !== undefined && { iss: issuer }, ...audience !== undefined && { aud: [...audience] } }
  return createSigner({ key: secret, algorithm: 'HS256', expiresIn: expiresInMs, ...named })({ sub, scope: ['orders', ...staff ? ['staff'] : [], ...refunds ? ['refunds'] : []].join(' ') })
}
