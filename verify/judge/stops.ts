import type { Time } from '../history.ts'
import type { StopReport } from '../target.ts'
import type { Case, Looked } from './case.ts'
import type { Struck } from './evidence.ts'
import { askedBetween, type Exchange, inFlightAt, keyOf, outcome } from './told.ts'

/** ms by which bytes must have left before the signal to have been there before it. */
const surelyBefore = 2
/** ms after which a request surely came after the beginning of the stop, as its report has it: in whole ms, of another process. */
const surelyAfter = 10
/** ms that a handler may go on after its client has gone. */
const handlerMax = 30_000
/** The report names no more ids of a kind. */
const mostIds = 1_000

type Stop = Struck & { readonly drainMs: number, readonly number: number }

/**
 * What had reached a service when it was told to stop is answered whole, or was never begun. TCP tells which: a connection that
 * its end closes in order, without an answer, had been read to its last byte, and one that is reset had not. (Of one that is used
 * after the signal it tells nothing: its close may have been on its way to the client.)
 */
export function abandoned (trial: Case): Looked {
  const stops = stopsOf(trial)
  if (stops.length === 0) return { looked: null, because: 'No instance was told to stop.' }
  if (isBalanced(trial)) return { looked: null, because: 'A balancer stands before the instances and ends their connections; see the failed requests.' }
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

/** Those that a stop met, whose clients waited. The second half of a slow body may never have come. */
export function atSignal ({ told }: Pick<Case, 'told'>, { at }: { readonly at: Time }): Exchange[] {
  return inFlightAt(told, at).filter(({ invocation: { purpose }, completion }) => {
    return purpose !== 'hang-up' && purpose !== 'slow-body' && completion?.sent !== undefined && completion.sent <= at - surelyBefore
  })
}

function cut ({ told, reads }: Case, { invocation: { operation }, completion }: Exchange): string | undefined {
  if (completion?.error === 'cut') return 'its answer was cut off in the middle'
  if (completion?.error === 'closed') return 'its connection was closed without an answer, after all of it had been read'
  if (completion?.error === undefined || completion.type !== 'info' || operation.kind !== 'place') return undefined
  // Reset, and so not read: unless it did happen, and by nobody else's doing.
  const order = told.orders.get(keyOf(operation))
  const alone = order?.attempts.filter(({ settling }) => !settling).length === 1
  const read = reads.find(({ afterSettling }) => !afterSettling)
  return completion.error === 'ECONNRESET' && alone && read?.byKey.has(keyOf(operation)) === true ? 'its connection was reset, though the order is stored' : undefined
}

/** The exit code, the last line of the log and what clients were told agree, request by request: here, what some of the clients were told. */
export function falseReport (trial: Case): Looked {
  const stops = stopsOf(trial)
  const nothing = noReports(trial, stops)
  if (nothing !== undefined) return nothing
  const byId = new Map<string, Exchange>()
  for (const exchange of trial.told.exchanges) {
    const id = exchange.completion?.requestId
    if (id !== undefined && !exchange.settling) byId.set(id, exchange)
  }
  let looked = 0
  for (const stop of stops) {
    const { report } = stop
    if (report === undefined) continue
    const tell = teller(trial, stop)
    reconciled(report, byId, tell)
    if (!isBalanced(trial)) looked += complete(trial, stop, report, tell)
  }
  return { looked }
}

/** How many requests and streams there may have been at a stop, and how many of them were cut. */
export interface AtStop { readonly requests: number, readonly streams: number, readonly abandoned: number }

/** Of some of the clients, stop by stop. Where there is one instance, all are its own. */
export function atStops (trial: Case): AtStop[] {
  const opened = [...trial.told.streams.values()].flatMap(entries => entries.flatMap(({ line }) => line.type === 'stream' && line.state === 'opened' ? line.at : []))
  return stopsOf(trial).map(stop => ({
    requests: during(trial, stop).length,
    streams: opened.filter(at => at <= stop.at + stop.drainMs).length,
    abandoned: atSignal(trial, stop).filter(exchange => cut(trial, exchange) !== undefined).length
  }))
}

/** The same, of what the reports say themselves, and of all clients together. */
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
    looked += 2
    const { completed, abandoned, stalled } = report.requests
    const { requests, streams, abandoned: cutOff } = seen[i] ?? { requests: 0, streams: 0, abandoned: 0 }
    if (completed.count > requests + streams) tell(`${completed.count} requests are said to be completed, where there were ${requests + streams} at most`)
    if (cutOff > abandoned.count + stalled.count) tell(`${cutOff} clients were cut, and ${abandoned.count} requests are said to be abandoned`)
  }
  return { looked }
}

function noReports ({ features }: Case, stops: readonly Stop[]): Looked | undefined {
  if (!features.has('report')) return { looked: null, because: 'The target does not report its stops.' }
  return stops.length === 0 ? { looked: null, because: 'No instance was told to stop.' } : undefined
}

type Tell = (says: string, shownBy?: Exchange) => void

function teller ({ findings }: Case, { number }: Stop): Tell {
  return (says, shownBy) => findings.add('falseReport', { orderId: `stop ${number}: ${shownBy?.completion?.requestId ?? says}` }, `Stop ${number}: ${says}.`, shownBy)
}

/** No request is named twice, and as many as are counted. */
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

/** What the report says of a request is what its client saw. */
function reconciled ({ requests }: StopReport, byId: ReadonlyMap<string, Exchange>, tell: Tell): void {
  for (const [fate, { ids = [] }] of Object.entries(requests)) {
    if (fate === 'completed' || fate === 'stalled') continue
    for (const id of ids) {
      const exchange = byId.get(id)
      if (exchange?.completion?.type === 'ok') tell(`request ${id} is said to be ${fate}, and its client has a whole ${exchange.completion.status}`, exchange)
    }
  }
}

/** Every request that may have been with the service during a stop. */
function during ({ told }: Case, { at, drainMs }: Stop): Exchange[] {
  return askedBetween(told, at - 2 * handlerMax, at + drainMs).filter(exchange => {
    const { completion } = exchange
    return completion === undefined || completion.at >= at || (outcome(exchange) === 'info' && completion.at >= at - handlerMax)
  })
}

/** Every answer of the time of the stop is in the report. */
function complete (trial: Case, stop: Stop, { startedAt, requests }: StopReport, tell: Tell): number {
  const end = stop.at + stop.drainMs
  const named = new Set(Object.values(requests).flatMap(({ ids = [] }) => ids))
  const cutOff = Object.values(requests).some(({ count }) => count > mostIds)
  let looked = 0
  for (const exchange of during(trial, stop)) {
    const { sent = 0, at: answeredAt = 0, requestId, error } = exchange.completion ?? {}
    if (error !== undefined || requestId === undefined || sent < startedAt + surelyAfter || answeredAt > end) continue
    looked++
    if (!cutOff && !named.has(requestId)) tell(`request ${requestId} was answered during the stop with ${exchange.completion?.status}, and the report does not name it`, exchange)
  }
  return looked
}

export function stopsOf ({ evidence: { faults } }: Pick<Case, 'evidence'>): Stop[] {
  return faults.filter(fault => fault.drainMs !== null).map((fault, i) => ({ ...fault, drainMs: fault.drainMs ?? 0, number: i + 1 }))
}

export function isBalanced ({ evidence: { environment } }: Pick<Case, 'evidence'>): boolean {
  return environment.balancer !== undefined
}
