/**
 * What a failed statement left behind.
 *
 * - `poisoned`: rolled back, and the data is at fault: the same statement would fail again.
 * - `blocked`: rolled back, because another session held a lock for too long.
 * - `unavailable`: not begun or rolled back, and may succeed soon.
 * - `denied`: not begun or rolled back, because the database refuses it at present: it is read-only, or lacks a right, a table or a user.
 * - `unknown`: it may have committed. This is also the default.
 */
export type Failure = 'poisoned' | 'blocked' | 'unavailable' | 'denied' | 'unknown'

/** Thrown for a commit that may not survive a failover. */
export class UncertainCommit extends Error {
  constructor () {
    super('Postgres stopped waiting for its synchronous standby: what was committed may not survive a failover')
    this.name = 'UncertainCommit'
  }
}

/** Thrown if no connection was made: whatever the reason, no statement was sent. */
export class NotConnected extends Error {
  constructor (cause: Error) {
    super(cause.message, { cause })
    this.name = 'NotConnected'
  }
}

/**
 * What an SQLSTATE proves. A whole code takes precedence over its class; a code that is not listed is unknown.
 *
 * Postgres answers a statement with an ERROR only after rolling it back. A fault after the commit is a warning or ends the session
 * (FATAL, PANIC). A session may end at any moment: before, during or after the commit. So what a class proves depends on whether
 * it also ends sessions. Source of the codes: https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
const proofs: ReadonlyArray<readonly [codes: string, proves: Failure, because: string]> = [
  ['08', 'unknown', 'the connection was lost while the statement was on its way'],
  ['09 0B 0L 0P 0Z 20 21 24 27 2B 2D 2F 34 38 39 3B', 'denied', 'SQL that does not fit: transactions, cursors, roles, triggers, external routines'],
  ['0A', 'denied', 'not supported; or a cached plan whose result has changed: a new connection does not have it'],
  ['22 23 44', 'poisoned', 'data, and constraints, also those that Postgres checks at the commit'],
  ['25', 'denied', 'a read-only transaction (25006), or one in the wrong state'],
  ['25P04', 'unknown', 'transaction_timeout ends the session, at an unknown moment'],
  ['26', 'denied', 'a prepared statement of another server, to which a pooler switched'],
  ['28 3D 3F', 'denied', 'the user, the database or the schema: checked before any statement runs'],
  ['40', 'unavailable', 'rolled back in favour of another transaction'],
  ['40003', 'unknown', 'statement completion unknown'],
  ['42', 'denied', 'syntax, names, rights (42501); a prepared statement that exists already (42P05, as 26)'],
  ['53 58', 'unavailable', 'no disk, no memory, a fault of the operating system'],
  ['53300', 'unavailable', 'too many connections: the answer to a new connection'],
  ['54', 'poisoned', 'larger than Postgres can hold, such as a key of an index'],
  ['55', 'denied', 'an object in the wrong state'],
  ['55P03', 'blocked', 'waited too long for a lock'],
  ['57', 'unknown', 'the operator, a crash or the end of the database ends the session, at any moment (57P01, 57P02, 57P04)'],
  ['57014', 'blocked', 'cancelled, also by statement_timeout; while waiting for a standby it would be a warning and a success'],
  ['57P03', 'unavailable', 'starting, stopping or recovering: the answer to a new connection'],
  ['57P05', 'unavailable', 'idle for too long: checked before the next statement begins'],
  ['72', 'unavailable', 'a snapshot that is too old'],
  ['F0 XX', 'denied', 'faults within Postgres and its files'],
  ['P0', 'denied', 'a fault of a function'],
  ['P0001', 'poisoned', 'RAISE: a function or a trigger refuses the data']
  // HV is unknown: a foreign server may have done anything.
]
const proofOf = new Map(proofs.flatMap(([codes, failure]) => codes.split(' ').map(code => [code, failure] as const)))

/** In these classes the severity tells an error from the end of a session. A severity in another language than English proves nothing. */
const onlyAsError = /^(53(?!300)|58|F0|XX)/

/** PgBouncer's messages, with 08P01, if it had no server for the statement. */
const neverHadServer = /^(query_wait_timeout|server login has been failing|server login failed|pgbouncer cannot connect to server)/

/** Reads the shapes in which Prisma 7 with its pg adapter reports a failure (P2010, P2039, bare DriverAdapterError, plain Error). */
export function failureOf (error: unknown): Failure {
  if (error instanceof NotConnected) return failureToConnect(error)
  const { kind, sqlState, severity, message = '' } = driverErrorOf(error)

  if (sqlState !== undefined) {
    if (sqlState === '08P01' && neverHadServer.test(message)) return 'unavailable'
    if (onlyAsError.test(sqlState) && severity !== 'ERROR') return 'unknown'
    return proofOf.get(sqlState) ?? proofOf.get(sqlState.slice(0, 2)) ?? 'unknown'
  }
  // Connecting failed, so nothing was sent.
  if (kind === 'DatabaseNotReachable') return 'unavailable'
  if (error instanceof Error && neverSent.has(error.message)) return 'unavailable'
  // No transaction started in time.
  if (codeOf(error) === 'P2028' && error instanceof Error && error.message.includes('Unable to start a transaction')) return 'unavailable'
  return 'unknown'
}

/** No statement was sent. Waiting helps, unless a password, a right or a database is missing. */
function failureToConnect ({ cause }: NotConnected): Failure {
  return /^(28|3D|42)/.test(codeOf(cause) ?? '') ? 'denied' : 'unavailable'
}

/** Whether the database caused this error, and not the program. */
export function isDatabaseFailure (error: unknown): boolean {
  return error instanceof UncertainCommit || error instanceof NotConnected || driverErrorOf(error).kind !== undefined || codeOf(error)?.startsWith('P') === true ||
    (error instanceof Error && (neverSent.has(error.message) || /^(Connection terminated|Query read timeout)/.test(error.message)))
}

/** The SQLSTATE, if Postgres or a pooler gave one. */
export function sqlStateOf (error: unknown): string | undefined {
  return error instanceof NotConnected ? codeOf(error.cause) : driverErrorOf(error).sqlState
}

/** The database's message, without what Prisma puts around it. */
export function wordsOf (error: unknown): string {
  return driverErrorOf(error).message ?? (error instanceof Error ? error.message.trim().split('\n').at(-1) ?? '' : String(error))
}

// The messages of pg and its pool if no statement was sent.
const neverSent = new Set([
  'timeout exceeded when trying to connect',
  'Connection terminated due to connection timeout',
  'Client has encountered a connection error and is not queryable',
  'Client was closed and is not queryable'
])

interface DriverError {
  kind?: string
  sqlState?: string
  severity?: string
  message?: string
}

function driverErrorOf (error: unknown): DriverError {
  const adapterError = property(property(error, 'meta'), 'driverAdapterError') ?? error
  const cause = property(adapterError, 'cause')
  return {
    ...textOf('kind', property(cause, 'kind')),
    ...textOf('sqlState', property(cause, 'originalCode')),
    ...textOf('severity', property(cause, 'severity')),
    ...textOf('message', property(cause, 'originalMessage'))
  }
}

function textOf (name: keyof DriverError, value: unknown): DriverError {
  return typeof value === 'string' ? { [name]: value } : {}
}

function codeOf (error: unknown): string | undefined {
  const code = property(error, 'code')
  return typeof code === 'string' ? code : undefined
}

function property (value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
