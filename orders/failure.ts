/**
 * What a failed statement left behind.
 *
 * - `poisoned`: rolled back, and the data is at fault: the same statement would fail again.
 * - `blocked`: rolled back, since another session holds what it needs for too long.
 * - `unavailable`: not begun or rolled back, and may succeed later.
 * - `unknown`: it may have committed. Everything is unknown that is not known to be something else.
 */
export type Failure = 'poisoned' | 'blocked' | 'unavailable' | 'unknown'

/** Thrown for a commit that Postgres itself would not vouch for. */
export class UncertainCommit extends Error {
  constructor () {
    super('Postgres stopped waiting for its synchronous standby: what was committed may not survive a failover')
    this.name = 'UncertainCommit'
  }
}

/** Reads the shapes in which Prisma 7 with its pg adapter reports a failure (P2010, P2039, bare DriverAdapterError, plain Error). */
export function failureOf (error: unknown): Failure {
  const { kind, sqlState } = driverErrorOf(error)

  if (sqlState !== undefined) {
    if (sqlState.startsWith('22') || sqlState.startsWith('23')) return 'poisoned'
    if (sqlState === '55P03') return 'blocked'
    if (sqlState.startsWith('53') || ['40001', '40P01'].includes(sqlState)) return 'unavailable'
    return 'unknown'
  }
  // Only connecting can be refused, so nothing was sent.
  if (kind === 'DatabaseNotReachable') return 'unavailable'
  if (error instanceof Error && neverConnected.has(error.message)) return 'unavailable'
  // Prisma waited in vain for a transaction to start.
  if (codeOf(error) === 'P2028' && error instanceof Error && error.message.includes('Unable to start a transaction')) return 'unavailable'
  return 'unknown'
}

/** Whether the database said or did this, as against a fault of the program. */
export function isDatabaseFailure (error: unknown): boolean {
  return error instanceof UncertainCommit || driverErrorOf(error).kind !== undefined || codeOf(error)?.startsWith('P') === true ||
    (error instanceof Error && (neverConnected.has(error.message) || /^(Connection terminated|Query read timeout)/.test(error.message)))
}

// pg-pool's own words for a wait that ended before any statement was sent.
const neverConnected = new Set([
  'timeout exceeded when trying to connect',
  'Connection terminated due to connection timeout'
])

interface DriverError {
  kind?: string
  sqlState?: string
}

function driverErrorOf (error: unknown): DriverError {
  const adapterError = property(property(error, 'meta'), 'driverAdapterError') ?? error
  const cause = property(adapterError, 'cause')
  const kind = property(cause, 'kind')
  const sqlState = property(cause, 'originalCode')
  return {
    ...typeof kind === 'string' && { kind },
    ...typeof sqlState === 'string' && { sqlState }
  }
}

function codeOf (error: unknown): string | undefined {
  const code = property(error, 'code')
  return typeof code === 'string' ? code : undefined
}

function property (value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}
