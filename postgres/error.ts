import { UserError } from '../user-error.ts'
/**
 * The embedded Postgres cannot serve. The message is for the person who started the program: what happened, what was not done,
 * and what to do next.
 */
export class EmbeddedPostgresError extends UserError {
  override name = 'EmbeddedPostgresError'
  readonly code: EmbeddedPostgresErrorCode

  constructor (code: EmbeddedPostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export type EmbeddedPostgresErrorCode =
  | 'no-binaries'
  | 'no-account'
  | 'data-folder'
  | 'socket-folder'
  | 'init-failed'
  | 'start-failed'
  | 'stop-failed'
