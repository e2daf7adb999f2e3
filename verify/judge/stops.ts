import type { Time } from '../history.ts'
import type { StopReport } from '../target.ts'
import type { Case, Looked } from './case.ts'
import type { Struck } from './evidence.ts'
import { askedBetween, type Exchange, inFlightAt, keyOf, outcome } from './told.ts'

/** ms before the signal by which bytes must have been sent to have arrived before it. */
const surelyBefore = 2
/** ms after which a request surely arrived after the beginning of the stop by its report, which is in whole ms and of another process. */
const surelyAfter = 10
/** ms that a handler may go on after its client has gone. */
const handlerMax = 30_000
/** The largest number of ids of one kind in a report. */
const mostIds = 1_000

type Stop = Struck & { readonly drainMs: number, readonly number: number }

/**
 * A request that had reached a service at the signal is answered in whole, or never began. TCP shows which: a connection that
 * ends in order, without an answer, had been read to its last byte; one that is reset had not. (For a connection that is used
 * after the signal it shows nothing: its close may have been under way to the client.)
 */
export function abandoned (trial: Case): Looked {
  const stops = stopsOf(trial)
  if (stops.length === 0) return { looked: null, because: 'No instance was told to stop.' }
  if (isBalanced(trial)) return { looked: null, because: 'A balancer is in front of the instances and ends their connections; see the failed requests.' }
  let looked = 0
  for (const stop of stops) {
    for (const exchange of atSignal(trial, stop)) {
      looked++
      const says = cut(trial, exchange)
      if (says === undefined) continue
      const { op, operation } = exchange.invocation
      trial.findings.add('abandoned', operation.kind === 'place' ? { customer: operation.customer, key: operation.key } : { orderId: `request ${op}` },
        `Request ${op} (${operation.kind}) had reached the service ${Math.round(stop.at - (exchange.completion?.sent ?? stop.at))} ms before stop ${stop.number}, and ${says}.`, exchange)
    }
  }
  return { looked }
}

/** The requests that a stop met and whose clients waited. The second half of a slow body may never have arrived. */
export function atSignal ({ told }: Pick<Case, 'told'>, { at }: { readonly at: Time }): Exchange[] {
  return inFlightAt(told, at).filter(({ invocation: { purpose }, completion }) => {
    return purpose !== 'hang-up' && purpose !== 'slow-body' && completion?.sent !== undefined && completion.sent <= at - surelyBefore
  })
}

function cut ({ told, reads }: Case, { invocation: { operation }, completion }: Exchange): string | undefined {
  if (completion?.error === 'cut') return 'its answer was cut off in the middle'
  if (completion?.error === 'closed') return 'its connection was closed without an answer, after all of it had been read'
  if (completion?.error === undefined || completion.type !== 'info' || operation.kind !== 'place') return undefined
  // Reset, and so not read, unless the order exists and no other request made it.
  const order = told.orders.get(keyOf(operation))
  const alone = order?.attempts.filter(({ settling }) => !settling).length === 1
  const read = reads.find(({ afterSettling }) => !afterSettling)
  return completion.error === 'ECONNRESET' && alone && read?.byKey.has(keyOf(operation)) === true ? 'its connection was reset, though the order is stored' : undefined
}

/** The exit code, the last line of the log and the clients' answers agree, request by request. This part checks the answers of some clients. */
export function falseReport (trial: Case): Looked {
  const stops = stopsOf(trial)
  const nothing = noReports(trial, stops)
  if (nothing !== undefined) return nothing
  const known = knownTo(trial)
  let looked = 0
  for (const stop of stops) {
    const { report } = stop
    if (report === undefined) continue
    const tell = teller(trial, stop)
    reconciled(report, known.byId, tell)
    if (!isBalanced(trial)) looked += complete(trial, stop, report, known, tell)
  }
  return { looked }
}

interface Known {
  /** The requests whose id clients know. */
  readonly byId: ReadonlyMap<string, Exchange>
  /** Whether `Connection: close` shows that the stop had begun. It shows nothing if every answer of the service says so. */
  readonly saysClose: boolean
}

function knownTo ({ told }: Case): Known {
  const load = told.exchanges.filter(({ settling }) => !settling)
  return {
    byId: new Map(load.flatMap(exchange => exchange.completion?.requestId === undefined ? [] : [[exchange.completion.requestId, exchange]])),
    saysClose: load.some(exchange => isWhole(exchange) && exchange.completion?.closes !== true)
  }
}

type Fate = keyof StopReport['requests']

/** How many requests there may have been at a stop, by what their clients saw, and how many of the requests that its report names have an answer. */
export interface AtStop extends Readonly<Record<Fate, number>> {
  /** Requests that were answered in whole. */
  readonly whole: number
  /** How many of those have no id. */
  readonly nameless: number
  /** Requests whose clients left, or cannot say whether the request was read. */
  readonly unclear: number
  readonly streams: number
  readonly cut: number
}

const nobody: AtStop = { completed: 0, refused: 0, unstarted: 0, stalled: 0, abandoned: 0, whole: 0, nameless: 0, unclear: 0, streams: 0, cut: 0 }

/** Counts the requests of some clients, stop by stop. With one instance, all are its own. */
export function atStops (trial: Case): AtStop[] {
  const { byId } = knownTo(trial)
  return stopsOf(trial).map(stop => {
    const requests = during(trial, stop)
    const whole = requests.filter(isWhole)
    const cuts = new Set(atSignal(trial, stop).filter(exchange => cut(trial, exchange) !== undefined))
    const answered = (fate: Fate): number => (stop.report?.requests[fate].ids ?? []).filter(id => byId.has(id)).length
    return {
      completed: answered('completed'),
      refused: answered('refused'),
      unstarted: answered('unstarted'),
      stalled: answered('stalled'),
      abandoned: answered('abandoned'),
      whole: whole.length,
      nameless: whole.filter(({ completion }) => completion?.requestId === undefined).length,
      unclear: requests.filter(exchange => !isWhole(exchange) && !cuts.has(exchange) && exchange.completion?.type !== 'fail').length,
      streams: streamsDuring(trial, stop.at, stop.at + stop.drainMs),
      cut: cuts.size
    }
  })
}

export function addedAtStop (one: AtStop, other: AtStop = nobody): AtStop {
  return Object.fromEntries((Object.keys(nobody) as Array<keyof AtStop>).map(name => [name, one[name] + other[name]])) as unknown as AtStop
}

/** The same for the reports themselves, and for all clients together. */
export function falseSums (trial: Case, seen: readonly AtStop[]): Looked {
  const stops = stopsOf(trial)
  const nothing = noReports(trial, stops)
  if (nothing !== undefined) return nothing
  let looked = 0
  for (const [i, stop] of stops.entries()) {
    const { report } = stop
    const tell = teller(trial, stop)
    looked++
    if (report === undefined) {
      tell('it left no report in the last line of its log')
      continue
    }
    looked += consistent(report, tell)
    if (report.exitCode !== stop.exitCode) tell(`the report says exit code ${report.exitCode}, and it was ${stop.exitCode}`)
    if (report.requests.abandoned.count > 0 && stop.exitCode === 0) tell(`the report names ${report.requests.abandoned.count} abandoned requests, and the exit code is 0`)
    if (isBalanced(trial)) continue
    looked += sums(stop, report, seen[i] ?? nobody, tell)
  }
  return { looked }
}

/** Clients without an answer must explain the requests that a report counts beyond the clients' answers. */
function sums ({ probes = 0 }: Stop, { requests }: StopReport, seen: AtStop, tell: Tell): number {
  const { whole, nameless, unclear, streams, cut } = seen
  const others = nameless + unclear + streams + probes
  const bounded = (says: string, most: number, ...fates: Fate[]): void => {
    const count = fates.reduce((sum, fate) => sum + requests[fate].count - seen[fate], 0)
    if (count > most) tell(`${count} requests ${says} of which no client has an answer, and there were ${most} at most that have none`)
  }
  if (isNamedInFull(requests)) {
    bounded('are said to be completed', others, 'completed')
    bounded('are said to be refused or not started', others, 'refused', 'unstarted')
    bounded('are in the report', others + cut, 'completed', 'refused', 'unstarted', 'stalled', 'abandoned')
  } else if (requests.completed.count > whole + others) {
    tell(`${requests.completed.count} requests are said to be completed, where there were ${whole + others} at most`)
  }
  if (cut > requests.abandoned.count + requests.stalled.count) tell(`${cut} clients were cut, and ${requests.abandoned.count} requests are said to be abandoned`)
  return 4
}

function isNamedInFull (requests: StopReport['requests']): boolean {
  return Object.values(requests).every(({ count }) => count <= mostIds)
}

function noReports ({ features }: Case, stops: readonly Stop[]): Looked | undefined {
  if (!features.has('report')) return { looked: null, because: 'The target does not report its stops.' }
  return stops.length === 0 ? { looked: null, because: 'No instance was told to stop.' } : undefined
}

type Tell = (says: string, shownBy?: Exchange) => void

function teller ({ findings }: Case, { number }: Stop): Tell {
  return (says, shownBy) => findings.add('falseReport', { orderId: `stop ${number}: ${shownBy?.completion?.requestId ?? says}` }, `Stop ${number}: ${says}.`, shownBy)
}

/** A report names as many requests as it counts, and none twice. */
function consistent ({ requests }: StopReport, tell: Tell): number {
  const seen = new Map<string, string>()
  let looked = 0
  for (const [fate, { count, ids = [] }] of Object.entries(requests)) {
    if (ids.length > count) tell(`${count} requests are said to be ${fate}, and ${ids.length} are named`)
    if (fate === 'completed' && ids.length === 0 && count > 0) tell(`${count} requests are said to be ${fate}, and none is named`)
    for (const id of ids) {
      looked++
      const other = seen.get(id)
      if (other !== undefined) tell(`request ${id} is said to be ${other} and ${fate}`)
      seen.set(id, fate)
    }
  }
  return looked
}

/** The report says of each request what its client saw. */
function reconciled ({ requests }: StopReport, byId: ReadonlyMap<string, Exchange>, tell: Tell): void {
  for (const [fate, { ids = [] }] of Object.entries(requests)) {
    if (fate === 'completed' || fate === 'stalled') continue
    for (const id of ids) {
      const exchange = byId.get(id)
      if (exchange === undefined) continue
      const { type, status = 0 } = exchange.completion ?? {}
      // An answer to the request's question shows that the request had begun.
      if (type === 'ok' || (fate !== 'abandoned' && isWhole(exchange) && status < 500)) tell(`request ${id} is said to be ${fate}, and its client has a whole ${status}`, exchange)
    }
  }
}

/** Every request that the service may have had during a stop. */
function during ({ told }: Case, { at, drainMs }: Stop): Exchange[] {
  return askedBetween(told, at - 2 * handlerMax, at + drainMs).filter(exchange => {
    const { completion } = exchange
    return completion === undefined || completion.at >= at || (outcome(exchange) === 'info' && completion.at >= at - handlerMax)
  })
}

/**
 * The report names each request that was surely answered after the beginning of the stop: it was sent after it, or its answer
 * says that the connection closes, which no earlier answer does.
 */
function complete (trial: Case, stop: Stop, { startedAt, requests }: StopReport, { saysClose }: Known, tell: Tell): number {
  const end = stop.at + stop.drainMs
  const named = new Set(Object.values(requests).flatMap(({ ids = [] }) => ids))
  let looked = 0
  for (const exchange of during(trial, stop)) {
    const { sent = Infinity, at: answeredAt = 0, requestId, status, closes } = exchange.completion ?? {}
    if (!isWhole(exchange) || requestId === undefined) continue
    const cameAfter = sent >= startedAt + surelyAfter && answeredAt <= end
    const metIt = saysClose && closes === true && sent <= end && answeredAt >= startedAt
    if (!cameAfter && !metIt) continue
    looked++
    if (isNamedInFull(requests) && !named.has(requestId)) tell(`request ${requestId} was answered during the stop with ${status}, and the report does not name it`, exchange)
  }
  return looked
}

function isWhole ({ completion }: Exchange): boolean {
  return completion?.status !== undefined && completion.error === undefined
}

/** ms after which the load reopens a stream that has ended. */
const reopenAfter = 500

/** How many streams may have met a stop: those open at the signal, and those that clients tried to open meanwhile. */
function streamsDuring ({ told: { streams } }: Case, from: Time, to: Time): number {
  let count = 0
  for (const entries of streams.values()) {
    let closedAt: Time | undefined
    for (const { line } of entries) {
      if (line.type !== 'stream' || line.at > to) continue
      if (line.state === 'opened') closedAt = Infinity
      // Counts one that could not be opened, too.
      if (line.state === 'ended' || line.state === 'closed') {
        if (line.at >= from) count++
        closedAt = line.at
      }
    }
    if (closedAt === Infinity) count++
    else if (closedAt !== undefined) count += Math.floor(Math.max(0, to - Math.max(closedAt, from)) / reopenAfter)
  }
  return count
}

export function stopsOf ({ evidence: { faults } }: Pick<Case, 'evidence'>): Stop[] {
  return faults.filter(fault => fault.drainMs !== null).map((fault, i) => ({ ...fault, drainMs: fault.drainMs ?? 0, number: i + 1 }))
}

export function isBalanced ({ evidence: { environment } }: Pick<Case, 'evidence'>): boolean {
  return environment.balancer !== undefined
}
