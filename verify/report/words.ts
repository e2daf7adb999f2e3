import type { Completion, Invocation } from '../history.ts'
import type { Invariant, Occasion, Verdict } from '../verdict.ts'

/** The name of a broken invariant. */
export const names: Readonly<Record<Invariant, string>> = {
  lost: 'lost',
  duplicated: 'duplicated',
  phantom: 'phantom',
  resurrected: 'resurrected',
  replayMismatch: 'replay mismatch',
  wrongContent: 'wrong content',
  oversold: 'oversold',
  outboxMissing: 'outbox',
  undelivered: 'undelivered',
  state: 'state',
  wrongRead: 'wrong read',
  notListed: 'not listed',
  notStreamed: 'not streamed',
  wrongTransition: 'wrong transition',
  falseRefusal: 'false refusal',
  abandoned: 'abandoned',
  falseReport: 'false report',
  chargedTwice: 'charged twice',
  paidUncharged: 'paid, not charged',
  declinedCharged: 'declined, charged',
  shippedUnpaid: 'shipped unpaid',
  strayCharge: 'stray charge',
  wrongRefund: 'wrong refund',
  unsettled: 'unsettled',
  uncleanStop: 'unclean stop',
  failedRequest: 'failed request'
}

export function count (value: number): string {
  return value.toLocaleString('en-GB')
}

export function counted (value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** @param ms a length of time */
export function time (ms: number): string {
  if (ms < 10) return `${Number(ms.toFixed(1))} ms`
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${Number((ms / 1_000).toPrecision(3))} s`
  const seconds = Math.round(ms / 1_000)
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`
}

/** The verdict in one sentence. */
export function headline (verdict: Verdict): string {
  const { acknowledged, faults, missing } = verdict
  const hits = faults.filter(({ inFlight }) => inFlight > 0).length
  const through = faults.length === 0 ? 'with no fault' : `through ${counted(faults.length, 'fault')}, ${count(hits)} of them with requests in flight`
  switch (verdict.verdict) {
    case 'held':
      return `${counted(acknowledged, 'order was', 'orders were')} acknowledged, and every one is stored, once, ${through}.`
    case 'broken':
      return `Promises were broken: ${verdict.checked.filter(({ broken }) => broken > 0).map(({ invariant, broken }) => `${names[invariant]} ${count(broken)}`).join(', ')}. ${counted(acknowledged, 'order was', 'orders were')} acknowledged, ${through}.`
    case 'unknown':
      return `Nothing was found broken, but the evidence does not suffice. ${missing[0] ?? ''}`
  }
}

/** What zero losses in this number prove about the long run. */
export function bound ({ exposed, lossBound, lost }: Verdict): string {
  return lossBound === null
    ? `${counted(lost, 'finding')} of loss, ${counted(exposed, 'order')} acknowledged before a fault: there is no bound to state.`
    : `0 lost of ${count(exposed)} that were acknowledged before a fault: at most 1 in ${count(Math.max(1, Math.floor(1 / lossBound)))}, at 95 %, under faults like these.`
}

/** Where there was too little of what. */
export function occasion ({ promise, kind, says }: Occasion): string {
  return `${promise}${kind === undefined ? '' : `, ${kind}`}: ${says}`
}

/** The requests whose clients waited for the answer, and how many of them got one. */
export function availability ({ operations, failedRequests }: Verdict): { readonly waited: number, readonly says: string } {
  const waited = Object.entries(operations)
    .filter(([purpose]) => purpose !== 'settle' && purpose !== 'hang-up')
    .reduce((sum, [, { ok, fail, info }]) => sum + ok + fail + info, 0)
  if (waited === 0) return { waited, says: 'nothing was asked' }
  // Never rounded up to 100 %.
  const share = Math.floor(10_000 * (1 - failedRequests / waited)) / 100
  return { waited, says: `${share} % of ${counted(waited, 'request')} got a proper answer; ${count(failedRequests)} failed` }
}

/** The command that repeats the same load and faults. */
export function command ({ scenario, duration, seed, environment: { rate, clients, balancer, manager, command = 'npm run verify --', options = '' } }: Verdict): string {
  return [
    command, ...options === '' ? [] : [options], `--scenario ${scenario}`, `--duration ${duration / 1_000}`,
    ...rate === undefined ? [] : [`--rate ${rate}`],
    ...clients === undefined ? [] : [`--clients ${clients}`],
    ...balancer === undefined ? [] : [`--balancer ${balancer}`],
    ...manager === undefined ? [] : [`--manager ${manager}`],
    `--seed ${seed}`
  ].join(' ')
}

/** What no run of this kind can prove. */
export const notTested: readonly string[] = [
  'Power loss. The operating system keeps what a killed process wrote, so this run does not show whether fsync reaches the disk.',
  'More than one machine. Clients, service and database shared one host and its loopback network. They shared its clock, too, except in the scenario clock.',
  'Faults other than those listed, and other loads. An operation that is not in the table of requests was not tried.',
  'A target that is not truthful. The harness trusts the target file to read everything that is stored. The controls show only that the judge finds faults in what it reads.'
]

/** The request in a word or two. */
export function asked ({ operation, purpose }: Invocation): string {
  return operation.kind === purpose || (operation.kind === 'place' && purpose === 'new') ? operation.kind : `${operation.kind} (${purpose})`
}

/** The answer in a word or two. */
export function told (completion: Completion | undefined): string {
  if (completion === undefined) return 'no answer'
  const { type, status, problem, error, replayed } = completion
  return [type, status, problem, error, replayed === true ? 'replayed' : undefined].filter(part => part !== undefined).join(' ')
}
