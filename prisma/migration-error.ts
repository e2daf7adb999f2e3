import { UserError } from '../user-error.ts'
/**
 * Migrating stopped. The message is for the person who started it: what happened, what was not done, and what to do next.
 */
export class MigrationError extends UserError {
  override name = 'MigrationError'
  readonly code: MigrationErrorCode

  constructor (code: MigrationErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  /** Explains an error of the database or of the engine. */
  static from (error: unknown, url: string): MigrationError {
    if (error instanceof MigrationError) return error
    const code = codeOf(error)
    if (code !== '' && unreachable.has(code)) {
      return new MigrationError('unreachable',
        `The database at ${printable(url)} cannot be reached (${reasonOf(error)}). Nothing was applied. Check that it ` +
        'runs and that DATABASE_URL is right.', { cause: error })
    }
    if (code === '08P01') {
      return new MigrationError('refused',
        `The server at ${printable(url)} refuses this connection (${reasonOf(error)}). Nothing was applied. A pooler may not be able ` +
        'to pass on what the connection asks for: then set the search path for the database there, as in PgBouncer ' +
        "connect_query='SET search_path = …', and leave ?schema= out of DATABASE_URL.", { cause: error })
    }
    if (refused.has(code)) {
      return new MigrationError('refused',
        `The database at ${printable(url)} refuses this connection (${reasonOf(error)}). Nothing was applied. Check the ` +
        'user, the password and the database in DATABASE_URL.', { cause: error })
    }
    if (code === '42501') {
      return new MigrationError('refused',
        `The user of ${printable(url)} may not do this (${reasonOf(error)}). Nothing was applied. The user needs a schema in which ` +
        'it may create tables: GRANT USAGE, CREATE ON SCHEMA … TO the user. Or, if it has CREATE on the database, name a new ' +
        'schema as ?schema= in DATABASE_URL.', { cause: error })
    }
    return new MigrationError('failed', `The database at ${printable(url)} failed: ${reasonOf(error)}. Nothing more was applied.`, { cause: error })
  }
}

export type MigrationErrorCode = 'unreachable' | 'refused' | 'too-old' | 'read-only' | 'bad-folder' | 'bad-name' | 'no-schema' | 'other-environment' | 'not-empty' | 'failed' | 'unknown-outcome'

const unreachable = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENOENT', 'EACCES', 'EHOSTUNREACH', 'ENETUNREACH',
  'ETIMEDOUT', 'ECONNRESET', 'EPIPE', '57P01', '57P02', '57P03', '53300'])

const refused = new Set(['28000', '28P01', '3D000'])

function codeOf (error: unknown): string {
  // If a host name has two addresses, Node wraps both failures. pg's own timeout has no code.
  if (error instanceof AggregateError) return codeOf(error.errors[0])
  if (error instanceof Error && /timeout (expired|exceeded)|Connection terminated/.test(error.message)) return 'ETIMEDOUT'
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}

function reasonOf (error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(', ')
  const text = error instanceof Error ? error.message : String(error)
  // The engine appends a trace of its own source.
  return text.replace(/\n +0: [^]*$/, '').trim()
}

/** The URL without its secret. */
export function printable (url: string): string {
  try {
    const shown = new URL(url)
    if (shown.password !== '') shown.password = '***'
    shown.searchParams.delete('password')
    return shown.href
  } catch {
    return 'DATABASE_URL'
  }
}
