import { UserError } from '../../../user-error.ts'
import { noVersion } from '../../../verify/history.ts'
import type { Control } from '../control.ts'
import { exchangesIn, replaceEvents, replaceRows, type Damaged, type Exchange, type OpenLine, type Row } from './damaged.ts'

export interface Damage extends Control {
  /** Which of the records it is done to. Default: the one of a `term`. */
  readonly record?: RecordName
  readonly damage: (evidence: Damaged) => void
}

export type RecordName = 'term' | 'payments'

/** Each is one thing that a service which breaks that promise would leave behind. */
export const damages: readonly Damage[] = [
  { name: 'recorded-dropped', broken: 'One stored order is missing', expected: 'lost', damage: evidence => firstRow(evidence, () => []) },
  { name: 'recorded-doubled', broken: 'One order is stored twice', expected: 'duplicated', damage: evidence => firstRow(evidence, row => [row, row]) },
  { name: 'recorded-total', broken: 'One stored total is wrong', expected: 'wrongContent', damage: evidence => firstRow(evidence, row => [{ ...row, total: row.total + 1 }]) },
  { name: 'recorded-ghost', broken: 'One order is stored that nobody requested', expected: 'phantom', damage: evidence => firstRow(evidence, row => [row, { ...row, id: crypto.randomUUID(), key: 'ghost' }]) },
  { name: 'recorded-not-started', broken: 'The answers of one order say that nothing was started', expected: 'resurrected', damage: refuse },
  {
    name: 'recorded-time',
    broken: 'One retry is answered with another time',
    expected: 'replayMismatch',
    damage: ({ settle }) => changeOrder(settle, 'retry', ({ answer }) => answer.replayed === true, order => { order.createdAt = '2026-01-01T00:00:00.000Z' })
  },
  {
    name: 'recorded-moved-on',
    broken: 'One retry is answered with a later state of the order',
    expected: 'replayMismatch',
    damage: ({ settle }) => changeOrder(settle, 'retry', ({ answer }) => answer.replayed === true, order => Object.assign(order, { status: 'paid', version: 2 }))
  },
  {
    name: 'recorded-first-as-replay',
    broken: 'One first answer says that it is a replay',
    expected: 'replayMismatch',
    damage: ({ history }) => { exchangesIn(history, 'new order', isNew)[0].answer.replayed = true }
  },
  {
    name: 'recorded-customer',
    broken: "One answer shows another customer's name",
    expected: 'wrongContent',
    damage: ({ history }) => changeOrder(history, 'new order', isNew, order => { order.customer = 'somebody-else' })
  },
  { name: 'recorded-location', broken: 'One Location is that of another order', expected: 'wrongContent', damage: ({ history }) => { exchangesIn(history, 'new order', isNew)[0].answer.location = '/orders/0' } },
  {
    name: 'recorded-items',
    broken: 'One answer has the items in another sequence',
    expected: 'wrongContent',
    damage: ({ history }) => changeOrder(history, 'new order of two items', exchange => isNew(exchange) && exchange.answer.order?.items.length === 2, order => order.items.reverse())
  },
  { name: 'recorded-stock', broken: 'The stock is one too high', expected: 'oversold', damage: ({ first, second }) => { for (const product of [first, second].flatMap(read => read?.products?.[0] ?? [])) product.available++ } },
  { name: 'recorded-event', broken: 'One event is missing', expected: 'outboxMissing', damage: evidence => firstEvents(evidence, ({ version }) => version > 1, () => []) },
  {
    name: 'recorded-undelivered',
    broken: 'One event was not delivered',
    expected: 'outboxMissing',
    damage: ({ second }) => { for (const event of second?.events?.slice(0, 1) ?? []) event.delivered = false }
  },
  {
    name: 'recorded-unreceived',
    broken: 'One event did not reach the consumer',
    expected: 'undelivered',
    damage (evidence) {
      const [one] = evidence.deliveries ?? []
      evidence.deliveries = (evidence.deliveries ?? []).filter(({ orderId, version }) => orderId !== one?.orderId || version !== one.version)
    }
  },
  {
    name: 'recorded-step',
    broken: 'One order went from placed to delivered',
    expected: 'state',
    damage (evidence) {
      const id = firstEvents(evidence, ({ version, type }) => version === 2 && type === 'paid', event => [{ ...event, type: 'delivered' }])
      replaceRows(evidence, id, row => [{ ...row, status: row.version === 2 ? 'delivered' : row.status }])
    }
  },
  {
    name: 'recorded-read',
    broken: 'One read shows an order as shipped',
    expected: 'wrongRead',
    damage: ({ history }) => changeOrder(history, 'read', isRead, order => Object.assign(order, { status: 'shipped', version: order.version + 2 }))
  },
  { name: 'recorded-etag', broken: 'One read has the ETag of another version', expected: 'wrongRead', damage: ({ history }) => { exchangesIn(history, 'read', isRead)[0].answer.etag = '"7"' } },
  {
    name: 'recorded-page',
    broken: 'One order is missing on a page',
    expected: 'notListed',
    damage: ({ history }) => { exchangesIn(history, 'page of two orders', ({ answer }) => (answer.shown?.length ?? 0) > 1).at(-1)?.answer.shown?.pop() }
  },
  { name: 'recorded-stream', broken: 'The streams sent nothing', expected: 'notStreamed', damage: evidence => { evidence.history = evidence.history.filter(({ type }) => type !== 'event') } },
  {
    name: 'recorded-if-match',
    broken: 'One payment is acknowledged although If-Match named another version',
    expected: 'wrongTransition',
    damage ({ history }) {
      const { asked: { operation } } = exchangesIn(history, 'payment', ({ asked, answer }) => asked.operation.kind === 'pay' && answer.order?.version === 2)[0]
      if (operation.kind === 'pay') operation.ifMatch = noVersion
    }
  },
  { name: 'recorded-out-of-stock', broken: 'One order is refused as out of stock', expected: 'falseRefusal', damage: refuseAnother },
  { name: 'recorded-closed', broken: 'During a stop, one connection is closed without an answer', expected: 'abandoned', damage: cutOff },
  {
    name: 'recorded-report',
    broken: 'The report of a stop leaves out the completed requests',
    expected: 'falseReport',
    damage: ({ faults }) => { for (const { report } of faults) if (report) report.requests.completed = { count: 0, ids: [] } }
  },
  {
    name: 'recorded-report-in-flight',
    broken: 'The report of a stop leaves out one request that was in flight at the signal',
    expected: 'falseReport',
    damage (evidence) {
      const { answer } = metTheStop(evidence)
      for (const { report } of evidence.faults) if (report) without(report.requests.completed, answer.requestId)
    }
  },
  { name: 'recorded-report-cut', broken: 'The report of a stop counts a cut request as completed', expected: 'falseReport', damage: cutOff },
  {
    name: 'recorded-report-refused',
    broken: 'The report of a stop calls an answered request refused',
    expected: 'falseReport',
    damage (evidence) {
      const { answer: { requestId = '' } } = metTheStop(evidence)
      for (const { report } of evidence.faults) {
        if (!report) continue
        without(report.requests.completed, requestId)
        report.requests.refused = { count: 1, ids: [requestId] }
      }
    }
  },
  { name: 'recorded-report-exit', broken: 'The report of a stop has another exit code', expected: 'falseReport', damage: ({ faults }) => { for (const { report } of faults) if (report) report.exitCode = 20 } },
  { name: 'recorded-exit', broken: 'A stop ended with exit code 1', expected: 'uncleanStop', damage: ({ faults }) => { for (const fault of faults) fault.exitCode = 1 } },
  { name: 'recorded-failed', broken: 'Requests failed although none may fail', expected: 'failedRequest', damage: ({ needed }) => { needed.noFailedRequest = true } }
]

function isNew ({ asked, answer }: Exchange): boolean {
  return asked.purpose === 'new' && answer.order !== undefined && answer.replayed !== true
}

function isRead ({ asked, answer }: Exchange): boolean {
  return asked.operation.kind === 'read' && answer.order !== undefined
}

function changeOrder (lines: readonly OpenLine[], what: string, is: (exchange: Exchange) => boolean, change: (order: NonNullable<Exchange['answer']['order']>) => void): void {
  const { answer } = exchangesIn(lines, what, exchange => exchange.answer.order !== undefined && is(exchange))[0]
  if (answer.order !== undefined) change(answer.order)
}

/** The rows of the first order that was acknowledged. */
function firstRow (evidence: Damaged, by: (row: Row) => Row[]): void {
  const [{ answer }] = exchangesIn(evidence.history, 'new order', isNew)
  replaceRows(evidence, answer.order?.id ?? '', by)
}

type Events = NonNullable<NonNullable<Damaged['first']>['events']>

/** Those of the first order that has such events. Returns its id. */
function firstEvents (evidence: Damaged, is: (event: Events[number]) => boolean, by: (event: Events[number]) => Events): string {
  const { orderId } = evidence.first?.events?.find(is) ?? {}
  if (orderId === undefined) throw new UserError('The recorded run has no such event to be damaged, and nothing was proved. Record a longer one.')
  replaceEvents(evidence, orderId, event => is(event) ? by(event) : [event])
  return orderId
}

function refuse (evidence: Damaged): void {
  const { asked: { operation } } = exchangesIn(evidence.history, 'new order', isNew)[0]
  const key = operation.kind === 'place' ? operation.key : ''
  const isOf = ({ asked }: Exchange): boolean => asked.operation.kind === 'place' && asked.operation.key === key
  for (const { answer } of exchangesIn(evidence.history, 'answer', isOf)) {
    delete answer.order
    Object.assign(answer, { type: 'fail', status: 503, problem: 'not-started' })
  }
  const again = new Set(exchangesIn(evidence.settle, 'retry', isOf).map(({ asked }) => asked.op))
  evidence.settle = evidence.settle.filter(line => !('op' in line) || !again.has(line.op))
}

/** Another one like the first, so that there was enough of it. */
function refuseAnother ({ history }: Damaged): void {
  const { asked, answer } = exchangesIn(history, 'new order', isNew)[0]
  if (asked.operation.kind !== 'place') return
  const op = 1_000_000
  history.push({ ...asked, op, operation: { ...asked.operation, key: 'refused' } }, { type: 'fail', op, at: answer.at, status: 409, problem: 'out-of-stock' })
}

/** What was surely there before the signal, and answered after it. */
function metTheStop ({ history, faults }: Damaged): Exchange {
  const { at = 0 } = faults[0] ?? {}
  return exchangesIn(history, 'request that met the stop', ({ asked, answer }) => {
    return ['new', 'hot', 'scarce'].includes(asked.purpose) && answer.type === 'ok' && answer.closes === true && (answer.sent ?? at) < at - 5 && answer.at > at
  })[0]
}

function without (tally: { count: number, ids: string[] }, id: string | undefined): void {
  tally.count--
  tally.ids = tally.ids.filter(other => other !== id)
}

function cutOff (evidence: Damaged): void {
  const { answer } = metTheStop(evidence)
  delete answer.order
  delete answer.status
  Object.assign(answer, { type: 'info', error: 'closed' })
}
