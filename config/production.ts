import { createHash } from 'node:crypto'
import { readLocalSecret } from '../auth/local-secret.ts'
import type { Config } from '../config.ts'

/** A service in production does not start with these, unless ALLOW_IN_PRODUCTION names them. */
export const allowables = ['embedded-postgres', 'debug-logging', 'known-secrets'] as const
export type Allowable = typeof allowables[number]

type Judged = Pick<Config, 'auth' | 'database' | 'logLevel' | 'ops' | 'payments'>

/**
 * The faults of settings that suit development, but production only if ALLOW_IN_PRODUCTION names them.
 *
 * @param allowed the names in ALLOW_IN_PRODUCTION
 */
export function faultsInProduction ({ auth, database, logLevel, ops, payments }: Judged, allowed: readonly Allowable[]): string[] {
  const faults: string[] = []
  if (logLevel === 'debug' || logLevel === 'trace') {
    if (!allowed.includes('debug-logging')) faults.push(`LOG_LEVEL is "${logLevel}" in production: the log would hold the events of all customers. Set info, or name debug-logging in ALLOW_IN_PRODUCTION.`)
  }
  if (!allowed.includes('known-secrets')) {
    // With a database the lack of both is a fault everywhere, so another check reports it.
    if (database.url === undefined && auth.secret === undefined && auth.jwksUrl === undefined) faults.push('AUTH_JWT_SECRET and AUTH_JWKS_URL are both absent in production: the service would check tokens with a secret that is only for trying it. Set one.')
    const secrets = {
      AUTH_JWT_SECRET: auth.secret,
      AUTH_JWT_SECRET_PREVIOUS: auth.previousSecret,
      OPS_TOKEN: ops.token,
      PAYMENTS_NOTIFY_SECRET: payments.notifySecret
    }
    for (const [name, secret] of Object.entries(secrets)) {
      if (secret !== undefined && isKnown(secret)) faults.push(`${name} is a secret that others know: from an example, or from .data/. Make one with: openssl rand -base64 32`)
    }
  }
  return faults
}

/** The fault of a missing DATABASE_URL. */
export const noDatabase = 'DATABASE_URL is not set in production: the embedded Postgres exists only on this machine, and nobody backs it up. Set it, or name embedded-postgres in ALLOW_IN_PRODUCTION.'

/** The secrets of verify and a bench of this repository, and of jwt.io: as SHA-256, so that this list contains no secrets. */
const examples: ReadonlySet<string> = new Set([
  '91d51f22bcba5c1dc21f4b4f08102d09fa73fc0bf79ed2a43165c04ea6cbf7a4',
  '51562a71919767cf11e86c222afba1a5e3586c96f69c69e2d760b443c3ece2a1',
  '465d9ad5d5528ebe287b5dce4fb51620833d09b290e49ddcc70ca6c4a0aea01b',
  'f7d838701b86c5dfb57bf95fbc5ce6df204cfc9f15ad6cdb39fd22f8776e47b6'
])

function isKnown (secret: string): boolean {
  return examples.has(createHash('sha256').update(secret).digest('hex')) || secret === readLocalSecret()
}
