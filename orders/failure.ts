/**
 * What a failed statement left behind.
 *
 * - `poisoned`: rolled back, and the data is at fault: the same statement would fail again.
 * - `blocked`: rolled back, since another session holds what it needs for too long.
 * - `unavailable`: not begun or rolled back, and may succeed soon.
 * - `denied`: not begun or rolled back, since the database as it is will not have it: read-only, without a right, a table or a user.
 * - `unknown`: it may have committed. Everything is unknown that is not known to be something else.
 */
export type Failure = 'poisoned' | 'blocked' | 'unavailable' | 'denied' | 'unknown'

/** Thrown for a commit that Postgres itself would not vouch for. */
export class UncertainCommit extends Error {
  constructor () {
    super('Postgres stopped waiting for its synchronous standby: what was committed may not survive a failover')
    this.name = 'UncertainCommit'
  }
}

/** Thrown where no connection was made: whatever the reason, no statement was sent. */
export class NotConnected extends Error {
  constructor (cause: Error) {
    super(cause.message, { cause })
    this.name = 'NotConnected'
  }
}

/**
 * What an SQLSTATE proves, a whole code before its class. What is not here is unknown.
 *
 * Postgres answers a statement with an ERROR only once it has rolled it back. What goes wrong after the commit is a warning, or ends the
 * session (FATAL, PANIC), and that may come at any moment: before, during or after the commit. So what a class proves depends on
 * whether it also ends sessions. Source of the codes: https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
const proofs: ReadonlyArray<readonly [codes: string, proves: Failure, because: string]> = [
  ['08', 'unknown', 'the connection was lost with the statement on its way'],
  ['09 0B 0L 0P 0Z 20 21 24 27 2B 2D 2F 34 38 39 3B', 'denied', 'SQL that does not fit: transactions, cursors, roles, triggers, external routines'],
  ['0A', 'denied', 'not supported; also a cached plan whose result has changed, which a new connection does not have'],
  ['22 23 44', 'poisoned', 'data, and constraints, also those that are checked at the commit'],
  ['25', 'denied', 'a read-only transaction (25006), or one that is not in the state for it'],
  ['25P04', 'unknown', 'transaction_timeout ends the session, at a moment that is not told'],
  ['26', 'denied', 'a prepared statement that was made elsewhere: a pooler gave another server'],
  ['28 3D 3F', 'denied', 'who one is, which database, which schema: asked before anything is run'],
  ['40', 'unavailable', 'rolled back in favour of another transaction'],
  ['40003', 'unknown', 'statement completion unknown: it says so itself'],
  ['42', 'denied', 'syntax, names, rights (42501); a prepared statement that is there already (42P05, as 26)'],
  ['53 58', 'unavailable', 'no disk, no memory, a fault of the system below'],
  ['53300', 'unavailable', 'too many connections: said to one that connects'],
  ['54', 'poisoned', 'larger than Postgres can hold, as a key of an index'],
  ['55', 'denied', 'something is not in the state for it'],
  ['55P03', 'blocked', 'waited too long for a lock'],
  ['57', 'unknown', 'the operator, a crash or the end of the database ends the session, at any moment (57P01, 57P02, 57P04)'],
  ['57014', 'blocked', 'cancelled, also by statement_timeout; in the wait for a standby it would be a warning and a success'],
  ['57P03', 'unavailable', 'starting, stopping or recovering: said to one that connects'],
  ['57P05', 'unavailable', 'idle for too long: checked before the next statement begins'],
  ['72', 'unavailable', 'a snapshot that is too old'],
  ['F0 XX', 'denied', 'faults within Postgres and its files'],
  ['P0', 'denied', 'a fault of a function'],
  ['P0001', 'poisoned', 'RAISE: a function or a trigger refuses the data']
  // HV: what a foreign server has done is not known.
]
const proofOf = new Map(proofs.flatMap(([codes, failure]) => codes.split(' ').map(code => [code, failure] as const)))

/** Where a panic or the end of a session has codes of the same class as an error, only the word tells; in another language than English it is unknown. */
const onlyAsError = /^(53(?!300)|58|F0|XX)/

/** PgBouncer's own words, beside 08P01, where it had no server to give the statement to. */
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
  // Only connecting can be refused, so nothing was sent.
  if (kind === 'DatabaseNotReachable') return 'unavailable'
  if (error instanceof Error && neverSent.has(error.message)) return 'unavailable'
  // Prisma waited in vain for a transaction to start.
  if (codeOf(error) === 'P2028' && error instanceof Error && error.message.includes('Unable to start a transaction')) return 'unavailable'
  return 'unknown'
}

/** No statement was sent; what is left to tell is whether waiting helps: not for a password, a right or a database. */
function failureToConnect ({ cause }: NotConnected): Failure {
  return /^(28|3D|42)/.test(codeOf(cause) ?? '') ? 'denied' : 'unavailable'
}

/** Whether the database said or did this, as against a fault of the program. */
export function isDatabaseFailure (error: unknown): boolean {
  return error instanceof UncertainCommit || error instanceof NotConnected || driverErrorOf(error).kind !== undefined || codeOf(error)?.startsWith('P') === true ||
    (error instanceof Error && (neverSent.has(error.message) || /^(Connection terminated|Query read timeout)/.test(error.message)))
}

/** The SQLSTATE, where Postgres or a pooler gave one. */
export function sqlStateOf (error: unknown): string | undefined {
  return error instanceof NotConnected ? codeOf(error.cause) : driverErrorOf(error).sqlState
}

/** What the database said, without what Prisma puts around it. */
export function wordsOf (error: unknown): string {
  return driverErrorOf(error).message ?? (error instanceof Error ? error.message.trim().split('\n').at(-1) ?? '' : String(error))
}

// The words of pg and of its pool for what ended before any statement was sent.
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
