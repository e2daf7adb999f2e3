import type { LedgerLine } from '../gateway/ledger.ts'
import type { Delivery, Snapshot } from '../target.ts'
import { invariants, type Check, type Counterexample, type Invariant, type Occasion, type Verdict } from '../verdict.ts'
import { Availability } from './availability.ts'
import { type Case, type Looked, noRead } from './case.ts'
import { wrongContent } from './content.ts'
import { Counterexamples } from './counterexamples.ts'
import { coverage, together } from './coverage.ts'
import { undelivered } from './delivery.ts'
import { outboxMissing, state } from './events.ts'
import type { Circumstances, Evidence } from './evidence.ts'
import { Findings } from './findings.ts'
import { notListed } from './lists.ts'
import { lost } from './lost.ts'
import { gaps, missing, noGaps } from './missing.ts'
import { chargedTwice, declinedCharged, paidUncharged, shippedUnpaid, strayCharge, unsettled, wrongRefund } from './money.ts'
import { duplicated, replayMismatch } from './once.ts'
import { type Overview, overviewOf } from './overview.ts'
import { Prices } from './prices.ts'
import { wrongRead } from './reads.ts'
import { falseRefusal } from './refusals.ts'
import { failedRequest, uncleanStop } from './restarts.ts'
import { Shortages } from './shortages.ts'
import { wrongTransition } from './steps.ts'
import { oversold } from './stock.ts'
import { abandoned, addedAtStop, type AtStop, atStops, falseReport, falseSums } from './stops.ts'
import { index } from './stored.ts'
import { notStreamed } from './streams.ts'
import { followPlaced, keyOf, outcome, placed, type Placed, type Told } from './told.ts'
import { phantom, resurrected } from './unasked.ts'

/** Invariants without a check here concern everybody. */
const checks: Readonly<Record<Invariant, { says: string, check?: (trial: Case) => Looked }>> = {
  lost: { says: 'Every acknowledged order and change is stored, and later reads show it.', check: lost },
  duplicated: { says: 'One key of one customer makes one order, which is stored once.', check: duplicated },
  phantom: { says: 'Every stored order and change was requested.', check: phantom },
  resurrected: { says: 'No refused order or change is stored.', check: resurrected },
  replayMismatch: { says: 'A retry gets the answer of the first request, and a key with another body is never acknowledged.', check: replayMismatch },
  wrongContent: { says: 'An order has the requested content at the prices of the catalogue, and is shown only to its customer.', check: wrongContent },
  oversold: { says: 'The remaining stock and the live orders add up to the initial stock.' },
  outboxMissing: { says: 'Every change of an order has exactly one event, and the service reports it as delivered.', check: outboxMissing },
  undelivered: { says: 'Every event reached the consumer, in order for each order, and belongs to a commit.', check: undelivered },
  state: { says: 'The history of an order is a path of its state machine, without gaps.', check: state },
  wrongRead: { says: 'Every answer shows a state that the order had, with its ETag.', check: wrongRead },
  notListed: { says: 'An acknowledged order is exactly once on the pages of every later list of its customer.', check: notListed },
  notStreamed: { says: 'An open stream sends every change of the orders of its customer.', check: notStreamed },
  wrongTransition: { says: 'An acknowledged transition happened, its sender had the right to it, and it was at the version that If-Match named.', check: wrongTransition },
  falseRefusal: { says: 'The reason of every refusal is true.', check: falseRefusal },
  chargedTwice: { says: 'An order is charged no more than its total, and has no two active charges at once.', check: chargedTwice },
  paidUncharged: { says: 'An order that is paid, or that a client was told is paid, is charged its total in its currency.', check: paidUncharged },
  declinedCharged: { says: 'A payment that is declined, or that a client was told is declined, is not charged.', check: declinedCharged },
  shippedUnpaid: { says: 'The money of an order is captured before it is shipped.', check: shippedUnpaid },
  strayCharge: { says: 'Every charge and refund of the gateway belongs to a stored order.', check: strayCharge },
  wrongRefund: { says: 'The gateway refunds cancelled orders and promised refunds, and nothing else.', check: wrongRefund },
  unsettled: { says: 'When the faults are over, the outcome of every payment and refund becomes known.', check: unsettled },
  abandoned: { says: 'A request that reached an instance before the signal to stop gets a whole answer, or was never begun.', check: abandoned },
  falseReport: { says: 'The exit code, the last log line and the clients agree on every request of a stop.', check: falseReport },
  uncleanStop: { says: 'An instance that was told to stop exited with 0.' },
  failedRequest: { says: 'No request fails when instances are restarted.', check: failedRequest }
}

/** All requests, answers and stored data of some customers, or of all. */
export interface Part {
  /** Lines in their sequence. */
  readonly lines: Iterable<Placed>
  readonly first: Snapshot | undefined
  readonly second: Snapshot | undefined
  readonly deliveries?: readonly Delivery[] | undefined
  readonly ledger?: readonly LedgerLine[] | undefined
}

export interface JudgeOptions {
  /** Counterexamples per invariant in the verdict. Default 20. */
  readonly tellMax?: number | undefined
  /** Gets every counterexample, in any order. */
  readonly onCounterexample?: ((counterexample: Counterexample) => void) | undefined
}

/**
 * Judges the evidence. Pure: the same evidence gives the same verdict.
 */
export function judge (evidence: Evidence, options: JudgeOptions = {}): Verdict {
  const { history, settle, first, second, deliveries, ledger, ...circumstances } = evidence
  const whole = { first, second, deliveries, ledger }
  const judging = new Judging(circumstances, overviewOf(circumstances, placed(history, settle), whole), whole, options)
  const part = (): Part => ({ lines: placed(history, settle), ...whole })
  judging.add(part())
  if (judging.suspects.size > 0) judging.again(part())
  return judging.conclude()
}

/**
 * A judgement, part by part. Nearly every promise is made to one customer, and is judged by that customer's requests, answers
 * and rows alone. What concerns everybody is in the overview, or is added up. A customer who was shown another's order belongs
 * to the same part as the other.
 */
export class Judging {
  readonly #circumstances: Circumstances
  readonly #overview: Overview
  readonly #prices: Prices
  readonly #findings = new Findings()
  readonly #counterexamples: Counterexamples
  readonly #shortages: Shortages
  readonly #availability: Availability
  readonly #looked = new Map<Invariant, Looked>()
  /** What concerns everybody. */
  readonly #everybody: Case
  #parts = 0
  #counts = noAccounts
  #gaps = noGaps
  #occasions: readonly Occasion[] = []
  #atStops: readonly AtStop[] = []

  /** @param reads of the stored data: only their existence and the products are used */
  constructor (circumstances: Circumstances, overview: Overview, { first, second }: Pick<Part, 'first' | 'second'>, { tellMax, onCounterexample }: JudgeOptions = {}) {
    this.#circumstances = circumstances
    this.#overview = overview
    this.#prices = new Prices(circumstances, { exchanges: overview.catalogue })
    this.#counterexamples = new Counterexamples({ tellMax, onEach: onCounterexample })
    this.#shortages = new Shortages(circumstances, overview)
    this.#availability = new Availability(circumstances)
    const withoutOrders = (read: Snapshot | undefined): Snapshot | undefined =>
      read && { orders: [], ...read.products && { products: read.products }, ...read.events && { events: [] } }
    this.#everybody = this.#case({ lines: [], first: withoutOrders(first), second: withoutOrders(second) })
  }

  add (part: Part): Told {
    const trial = this.#case(part)
    for (const invariant of invariants) {
      const { check } = checks[invariant]
      if (check !== undefined) this.#looked.set(invariant, added(this.#looked.get(invariant), check(trial)))
    }
    this.#counterexamples.add(trial)
    this.#shortages.add(trial, this.#parts++)
    this.#availability.add(trial.told)
    this.#counts = accounts(trial, this.#counts)
    this.#gaps = gaps(trial, this.#gaps)
    this.#atStops = atStops(trial).map((at, i) => addedAtStop(at, this.#atStops[i]))
    if (this.#circumstances.needed.occasions === true) this.#occasions = together(this.#occasions, coverage(trial))
    return trial.told
  }

  /** After all parts were added: the numbers, from 0, of the parts that must be checked again. */
  get suspects (): ReadonlySet<number> {
    return this.#shortages.suspects
  }

  again (part: Part): void {
    const trial = this.#case(part)
    this.#shortages.falseIn(trial)
    this.#counterexamples.add(trial)
  }

  /** The verdict, when all parts are checked. */
  conclude (): Verdict {
    const circumstances = this.#circumstances
    const { scenario, target, seed, startedAt, duration, environment } = circumstances
    const everybody = this.#everybody
    this.#looked.set('oversold', oversold(everybody, this.#overview))
    this.#looked.set('uncleanStop', uncleanStop(everybody))
    this.#looked.set('falseReport', added(this.#looked.get('falseReport'), falseSums(everybody, this.#atStops)))
    this.#counterexamples.add(everybody)

    const count = (invariant: Invariant): number => this.#findings.count(invariant)
    const checked: Check[] = invariants.map(invariant =>
      ({ invariant, says: checks[invariant].says, ...this.#looked.get(invariant) ?? noRead, broken: count(invariant) }))
    const available = this.#availability.result
    const reasons = missing(circumstances, everybody.reads, this.#gaps, available, this.#occasions)
    const { exposed, ...counts } = this.#counts
    return {
      verdict: checked.some(({ broken }) => broken > 0) ? 'broken' : reasons.length > 0 ? 'unknown' : 'held',
      scenario,
      target,
      seed,
      startedAt,
      duration,
      ...counts,
      ...Object.fromEntries(invariants.map(invariant => [invariant, count(invariant)])) as Record<Invariant, number>,
      exposed,
      lossBound: exposed > 0 && count('lost') === 0 ? 3 / exposed : null,
      ...available,
      coverage: this.#occasions,
      missing: reasons,
      checked,
      counterexamples: invariants.flatMap(invariant => this.#counterexamples.first(invariant)),
      environment
    }
  }

  #case ({ lines, first, second, deliveries, ledger }: Part): Case {
    const { features, length } = this.#overview
    return {
      evidence: this.#circumstances,
      told: followPlaced(lines, length, features.has('reference')),
      reads: [...first ? [index(first, false)] : [], ...second ? [index(second, true)] : []],
      ...deliveries && { deliveries },
      ...ledger && { ledger },
      prices: this.#prices,
      features,
      findings: this.#findings
    }
  }
}

/** Adds two parts. One may have what the other lacks. */
function added (one: Looked | undefined, other: Looked): Looked {
  if (one === undefined || one.looked === null) return other
  return other.looked === null ? one : { ...other, looked: one.looked + other.looked }
}

type Accounts = Pick<Verdict, 'attempted' | 'acknowledged' | 'refused' | 'unknown' | 'recovered' | 'exposed'>

const noAccounts: Accounts = { attempted: 0, acknowledged: 0, refused: 0, unknown: 0, recovered: 0, exposed: 0 }

/** Counts orders by their state at the end of the load: the settling does not change what the clients knew. */
function accounts ({ evidence: { faults }, told, reads }: Case, before: Accounts): Accounts {
  const counts = { ...before }
  const first = reads.find(({ afterSettling }) => !afterSettling)
  const last = faults.reduce((last, { at }) => Math.max(last, at), -Infinity)
  for (const order of told.orders.values()) {
    // Acknowledged before the last fault.
    if ((order.acknowledgements[0]?.completion?.at ?? Infinity) < last) counts.exposed++
    const outcomes = order.attempts.filter(({ settling }) => !settling).map(outcome)
    if (outcomes.length === 0) continue
    counts.attempted++
    if (outcomes.includes('ok')) {
      counts.acknowledged++
    } else if (!outcomes.includes('info')) {
      counts.refused++
    } else {
      counts.unknown++
      if (first?.byKey.has(keyOf(order))) counts.recovered++
    }
  }
  return counts
}
