import type { Settings } from './options.ts'

/**
 * What a client saw of a request.
 *
 * - answered: a whole answer, with a status that `accepts` takes
 * - failed: a whole answer with another status
 * - refused: a whole 503 with `Retry-After`
 * - cut: an answer that began and did not arrive in whole
 * - abandoned: the service had read the request, and its connection ended without a byte of an answer
 * - unread: the connection ended before the service had read the request, so that nothing can have begun
 * - unconnected: no connection was made
 * - hung: no answer when the service was killed at `exitWithin`, or when it had ended and something held the connection
 *
 * TCP tells abandoned from unread. When a process closes a connection that holds unread bytes, or that it never accepted,
 * the kernel resets the connection; when the process has read everything, the kernel ends it in order. A request that
 * crosses the end of an idle connection (RFC 9112, 9.5) gets a reset too. This holds on Linux, with nothing between the
 * kit and the service. A proxy reads for the service, and so turns unread requests into abandoned ones. A service that
 * resets connections on purpose (`socket.resetAndDestroy()`) turns abandoned requests into unread ones.
 */
export type Outcome = 'answered' | 'failed' | 'refused' | 'cut' | 'abandoned' | 'unread' | 'unconnected' | 'hung'

export type Counts = Record<Outcome, number>

/** One of the first requests with this outcome. */
export interface Example {
  outcome: Outcome
  /** Method and path. */
  request: string
  /** ms, relative to the signal: negative before it. */
  sentAt: number
  endedAt: number
  /** The status, or how the connection ended. */
  saw: string
}

export interface Exit {
  /** As in Node, one of the two is null. Both are null if the kit killed the service at `exitWithin`. */
  code: number | null
  signal: NodeJS.Signals | null
  /** ms from the signal to the exit, or to the kill. */
  after: number
  /** The service still ran `exitWithin` ms after the signal. */
  overdue: boolean
}

/** What was left a second after the exit. A process in a group of its own shows by its port only. */
export interface LeftBehind {
  processes: Array<{ pid: number, command: string }>
  /** The origin of `url` if something still accepts connections there. */
  listening: string | null
}

export type FaultKind = Exclude<Outcome, 'answered'> | 'exit' | 'overdue' | 'left behind'

export interface Fault {
  kind: FaultKind
  count: number
  /** What happened, and what to do about it. */
  says: string
}

/** Plain data that can be written as JSON. */
export interface StopAccount {
  command: string[]
  url: string
  signal: NodeJS.Signals
  clients: number
  /** Requests under way when the signal was sent. */
  inFlight: number
  /** Requests by the moment at which they ended. */
  before: Counts
  after: Counts
  /** Whole answers by status. */
  statuses: Record<string, number>
  /** The first requests of each outcome except answered. */
  examples: Example[]
  exit: Exit
  leftBehind: LeftBehind
  faults: Fault[]
  /** The last lines that the service printed. */
  output: string[]
}

export function judge (account: Omit<StopAccount, 'faults'>, { allow, balancer, exitCode, exitWithin }: Settings): Fault[] {
  const { before, after, exit, leftBehind, signal } = account
  const total = (outcome: Outcome): number => before[outcome] + after[outcome]
  const all: Fault[] = [
    {
      kind: 'failed',
      count: total('failed'),
      says: 'answered with an error. A service that stops goes on serving: it must not fail what reaches it before its listener is closed.'
    },
    {
      kind: 'refused',
      count: allow.refused ? 0 : total('refused'),
      says: 'refused with 503 and Retry-After. These clients leave when they are told `Connection: close`: say so with the answers from the signal on, and serve what comes until then.'
    },
    {
      kind: 'cut',
      count: total('cut'),
      says: 'cut: the answer was begun and did not arrive whole. Wait until answers are written, and flushed.'
    },
    {
      kind: 'abandoned',
      count: total('abandoned'),
      says: 'abandoned: the service had read the request and its connection ended without a byte of an answer. Wait for what was begun before connections are closed and the process exits.'
    },
    {
      kind: 'unread',
      count: total('unread') > allow.unread ? total('unread') : 0,
      says: `unread: the connection was closed before the service had read the request; up to ${allow.unread} would pass for the race that no service can win. Accept and read what has come before the listener and idle connections are closed.`
    },
    {
      kind: 'unconnected',
      count: before.unconnected + (balancer === undefined ? 0 : after.unconnected),
      says: balancer === undefined
        ? `not connected before ${signal} was sent. The service did not take the load: lower \`clients\`, or see its output.`
        : 'not connected while the balancer still sent them. Go on accepting until it has noticed that readiness is gone.'
    },
    {
      kind: 'hung',
      count: total('hung'),
      says: 'hung: there was no answer to the end. Give each request a time limit that is shorter than that of the stop.'
    },
    {
      kind: 'overdue',
      count: exit.overdue ? 1 : 0,
      says: `still running ${exitWithin} ms after ${signal}, and killed. See what keeps it: a connection, a timer, a handler.`
    },
    {
      kind: 'exit',
      count: !exit.overdue && exit.code !== exitCode ? 1 : 0,
      says: `${describeExit(exit)} instead of exit code ${exitCode}. ${exit.signal === signal ? 'It does not handle the signal.' : 'Its last output says why.'}`
    },
    {
      kind: 'left behind',
      count: leftBehind.processes.length + (leftBehind.listening === null ? 0 : 1),
      says: 'left behind. End what the service has started before it exits.'
    }
  ]
  return all.filter(({ count }) => count > 0)
}

/** The account as text for people. */
export function describe (account: StopAccount): string {
  const { command, url, signal, clients, inFlight, before, after, exit, leftBehind, faults, examples, output } = account
  const lines = [faults.length === 0 ? 'The stop was clean.' : `The stop was not clean: ${faults.map(({ kind, count }) => `${count} × ${kind}`).join(', ')}.`, '']
  for (const { kind, count, says } of faults) {
    lines.push(`  ${count} × ${says}`)
    for (const { outcome, request, sentAt, endedAt, saw } of examples) {
      if (outcome === kind) lines.push(`      ${request}, sent at ${signedMs(sentAt)}, ended at ${signedMs(endedAt)}: ${saw}`)
    }
    if (kind !== 'left behind') continue
    for (const { pid, command } of leftBehind.processes) lines.push(`      process ${pid}: ${command}`)
    if (leftBehind.listening !== null) lines.push(`      ${leftBehind.listening} still accepts connections`)
  }
  if (faults.length > 0) lines.push('')
  lines.push(
    `  ${command.join(' ')}`,
    `  ${clients} clients of ${url}: ${before.answered} answered before ${signal}, ${inFlight} in flight at it, ${after.answered} answered after it. Times count from ${signal}.`,
    `  ${exit.overdue ? 'killed' : describeExit(exit)} at ${signedMs(exit.after)}`,
    '',
    output.length === 0 ? '  It printed nothing.' : '  Its last output:',
    ...output.map(line => `    ${line}`)
  )
  return lines.join('\n')
}

export function describeExit ({ code, signal }: Pick<Exit, 'code' | 'signal'>): string {
  return signal === null ? `exit code ${String(code)}` : `ended by ${signal}`
}

function signedMs (ms: number): string {
  return `${ms < 0 ? '−' : '+'}${Math.abs(ms)} ms`
}
