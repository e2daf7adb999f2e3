import type { Completion, Invocation, Line, Operation, OrderAnswered, Purpose } from '../../history.ts'
import { follow } from '../../judge/told.ts'
import { random } from '../../random.ts'
import { Drawing } from '../../report/drawing.ts'
import type { Counterexample, Fault, Invariant, Verdict } from '../../verdict.ts'

/** A text that would break out of any HTML context, and run a script. */
export const hostile = '</script></style></pre><img src=x onerror="document.title=`broken`">&amp;\'"'

export const beginning = Date.UTC(2026, 0, 31, 12)

interface MadeUp {
  readonly requests?: number
  readonly faults?: number
  /** In ms. */
  readonly duration?: number
}

/** An invented run with some of everything that a report can show. The same at every call. */
export function madeUpRun ({ requests = 600, faults = 12, duration = 30_000 }: MadeUp = {}): { verdict: Verdict, history: Line[], drawing: Drawing } {
  const draw = random(11)
  const struck = Array.from({ length: faults }, (_, i) => faultAt(beginning + duration * (i + 0.5) / faults, i, draw))
  const history = Array.from({ length: requests }, (_, i) => exchange(i + 1, beginning + duration * i / requests, draw)).flat()
  const counterexamples = (['lost', 'duplicated', 'wrongContent'] as const).flatMap(invariant => Array.from({ length: 6 }, () => counterexample(invariant)))
  const broken = Map.groupBy(counterexamples, ({ invariant }) => invariant)
  const count = (invariant: Invariant): number => broken.get(invariant)?.length ?? 0
  const drawing = new Drawing()
  drawing.add(follow(history, []).exchanges)
  return {
    history,
    drawing,
    verdict: {
      verdict: 'broken',
      scenario: 'all',
      target: hostile,
      seed: 11,
      startedAt: new Date(beginning - 4_000).toISOString(),
      duration,
      attempted: 400,
      acknowledged: 300,
      refused: 80,
      unknown: 20,
      recovered: 12,
      lost: count('lost'),
      phantom: 0,
      resurrected: 0,
      duplicated: count('duplicated'),
      replayMismatch: 0,
      wrongContent: count('wrongContent'),
      oversold: 0,
      outboxMissing: 0,
      undelivered: 0,
      state: 0,
      wrongRead: 0,
      notListed: 0,
      notStreamed: 0,
      wrongTransition: 0,
      falseRefusal: 0,
      abandoned: 0,
      falseReport: 0,
      uncleanStop: 0,
      chargedTwice: 0,
      paidUncharged: 0,
      declinedCharged: 0,
      shippedUnpaid: 0,
      strayCharge: 0,
      wrongRefund: 0,
      unsettled: 0,
      failedRequest: 0,
      exposed: 250,
      lossBound: null,
      faults: struck,
      failedRequests: 61,
      latency: { p50: 8.25, p99: 412, max: 2_345 },
      coverage: [
        { promise: 'P1', kind: 'term', says: 'orders acknowledged before a fault', count: 250, needed: 50 },
        { promise: 'P2', says: `orders sent twice at once ${hostile}`, count: 3, needed: 20 },
        { promise: 'P6', says: 'requests that a report names', count: 0, needed: 10, skipped: `no report ${hostile}` }
      ],
      missing: [],
      checked: [
        ...(['lost', 'duplicated', 'phantom', 'resurrected', 'replayMismatch', 'wrongContent'] as const).map(invariant => (
          { invariant, says: `Of ${invariant} there is none.`, looked: 400, broken: count(invariant) })),
        { invariant: 'oversold', says: 'No more is sold than there was.', looked: null, broken: 0, because: `the target tells no stock ${hostile}` },
        { invariant: 'outboxMissing', says: 'Every change has its event.', looked: 900, broken: 0 },
        { invariant: 'state', says: 'Every state follows from the one before.', looked: 300, broken: 0 }
      ],
      counterexamples,
      operations: { new: { ok: 280, fail: 70, info: 10 }, 'hang-up': { ok: 3, fail: 1, info: 16 }, read: { ok: 90, fail: 20, info: 4 }, settle: { ok: 320, fail: 0, info: 0 } },
      environment: { rate: '20', clients: '64', commit: 'abcdef012345', node: 'v24.0.0', 'postgres fsync': 'on', 'postgres synchronous_standby_names': '', note: hostile }
    }
  }
}

function faultAt (at: number, i: number, draw: () => number): Fault {
  const inFlight = i % 3 === 0 ? 0 : Math.ceil(draw() * 40)
  const recoveredAt = at + 700 + draw() * 400
  switch (i % 4) {
    case 0: return { kind: 'kill', at, instance: 0, inFlight, exitCode: null, drainMs: null, recoveredAt }
    case 1: return { kind: 'brownout:latency', at, inFlight, exitCode: null, drainMs: null, recoveredAt }
    case 2: return { kind: 'term', at, instance: 1, inFlight, exitCode: 0, drainMs: 300 + draw() * 100, phases: { draining: 1, closing: 120, closed: 250 }, recoveredAt }
    default: return { kind: 'term', at, instance: 0, inFlight, exitCode: i === 3 ? null : 20, drainMs: 400, recoveredAt }
  }
}

function exchange (op: number, scheduled: number, draw: () => number): Line[] {
  const purpose: Purpose = draw() < 0.05 ? 'hang-up' : draw() < 0.2 ? 'read' : 'new'
  const operation: Operation = purpose === 'read'
    ? { kind: 'read', customer: 'alice', id: `order-${op}` }
    : { kind: 'place', customer: 'alice', key: `key-${op}`, order: { currency: 'EUR', items: [{ sku: 'ale', quantity: 1 }] } }
  const at = scheduled + draw()
  const took = 2 + 20 ** (draw() * 2)
  const invocation: Invocation = { type: 'invoke', op, at, scheduled, purpose, operation }
  const luck = draw()
  if (luck < 0.01) return [invocation]
  const completion: Completion = luck < 0.04
    ? { type: 'info', op, at: at + took, error: 'ECONNRESET' }
    : luck < 0.08
      ? { type: 'fail', op, at: at + took, error: 'ECONNREFUSED' }
      : luck < 0.16
        ? { type: 'fail', op, at: at + took, status: 409, problem: 'out-of-stock' }
        : { type: 'ok', op, at: at + took, status: 201 }
  return [invocation, completion]
}

function counterexample (invariant: Invariant): Counterexample {
  const customer = `bob ${hostile}`
  const key = `key ${hostile}`
  const order = { currency: 'EUR', items: [{ sku: `ale ${hostile}`, quantity: 2 }] }
  const answer: OrderAnswered = { ...order, items: [{ sku: 'ale', quantity: 2, unitPrice: 520 }], id: 'order-7', status: 'placed', version: 1, total: 1_040, reference: null }
  const operation: Operation = { kind: 'place', customer, key, order }
  const at = beginning + 3_000
  return {
    invariant,
    says: `${customer} was told of order-7, and it is not stored.`,
    customer,
    key,
    orderId: 'order-7',
    lines: [
      { type: 'invoke', op: 7, at, scheduled: at - 1, purpose: 'new', operation },
      { type: 'ok', op: 7, at: at + 900, status: 201, order: answer },
      { type: 'invoke', op: 9, at: at + 1_000, scheduled: at + 1_000, purpose: 'replay', operation },
      { type: 'invoke', op: 9, at: at + 2_000, scheduled: at + 2_000, purpose: 'settle', operation },
      { type: 'fail', op: 9, at: at + 2_300, status: 409, problem: hostile }
    ],
    stored: [{ read: 'first', orders: [] }, { read: 'second', orders: [{ ...answer, reference: hostile }] }]
  }
}
