import type { Check, Invariant, Verdict } from '../verdict.ts'
import { availability } from './availability.ts'
import type { Case, Looked } from './case.ts'
import { wrongContent } from './content.ts'
import { coverage } from './coverage.ts'
import { counterexamples } from './counterexamples.ts'
import { undelivered } from './delivery.ts'
import { outboxMissing, state } from './events.ts'
import type { Evidence } from './evidence.ts'
import { featuresOf } from './features.ts'
import { Findings } from './findings.ts'
import { notListed } from './lists.ts'
import { lost } from './lost.ts'
import { missing } from './missing.ts'
import { duplicated, replayMismatch } from './once.ts'
import { wrongRead } from './reads.ts'
import { falseRefusal } from './refusals.ts'
import { failedRequest, uncleanStop } from './restarts.ts'
import { wrongTransition } from './steps.ts'
import { oversold } from './stock.ts'
import { abandoned, falseReport } from './stops.ts'
import { index } from './stored.ts'
import { notStreamed } from './streams.ts'
import { follow, keyOf, outcome } from './told.ts'
import { phantom, resurrected } from './unasked.ts'

const invariants: ReadonlyArray<{ invariant: Invariant, says: string, check: (trial: Case) => Looked }> = [
  { invariant: 'lost', check: lost, says: 'What was acknowledged is stored, and is shown to whoever asks for it afterwards.' },
  { invariant: 'duplicated', check: duplicated, says: 'One key of one customer makes one order, stored once.' },
  { invariant: 'phantom', check: phantom, says: 'What is stored was asked for.' },
  { invariant: 'resurrected', check: resurrected, says: 'What was refused is not stored.' },
  { invariant: 'replayMismatch', check: replayMismatch, says: 'Every retry is answered as the first was, and another body never is.' },
  { invariant: 'wrongContent', check: wrongContent, says: 'An order is what was asked for, at the prices of the catalogue, and is shown to its customer alone.' },
  { invariant: 'oversold', check: oversold, says: 'The stock that is left and the orders that are live make up the stock that there was.' },
  { invariant: 'outboxMissing', check: outboxMissing, says: 'Every change of an order has exactly one event, which was delivered.' },
  { invariant: 'undelivered', check: undelivered, says: 'Every event reached its consumer, in order for each order, and none without its commit.' },
  { invariant: 'state', check: state, says: 'What became of an order is a path of its states, without gaps.' },
  { invariant: 'wrongRead', check: wrongRead, says: 'What is shown of an order is a state that it had, with its ETag.' },
  { invariant: 'notListed', check: notListed, says: 'An acknowledged order is on the pages of every later list of its customer, once.' },
  { invariant: 'notStreamed', check: notStreamed, says: 'An open stream tells of everything that happens to the orders of its customer.' },
  { invariant: 'wrongTransition', check: wrongTransition, says: 'A transition that was acknowledged happened, by who may do it, at the version that was named.' },
  { invariant: 'falseRefusal', check: falseRefusal, says: 'What a refusal says is wrong, is wrong.' },
  { invariant: 'abandoned', check: abandoned, says: 'What had reached an instance before it was told to stop is answered whole, or was never begun.' },
  { invariant: 'falseReport', check: falseReport, says: 'Exit code, last log line and clients agree on every request of a stop.' },
  { invariant: 'uncleanStop', check: uncleanStop, says: 'An instance that was told to stop exited with 0.' },
  { invariant: 'failedRequest', check: failedRequest, says: 'No client notices that instances are restarted.' }
]

/**
 * What the evidence shows. Pure: the same evidence gives the same verdict.
 *
 * @param tellMax counterexamples of each invariant; default 20
 */
export function judge (evidence: Evidence, { tellMax }: { readonly tellMax?: number | undefined } = {}): Verdict {
  const { scenario, target, seed, startedAt, duration, environment, first, second } = evidence
  const features = featuresOf(evidence)
  const told = follow(evidence.history, evidence.settle, features.has('reference'))
  const reads = [...first ? [index(first, false)] : [], ...second ? [index(second, true)] : []]
  const findings = new Findings(tellMax)
  const trial: Case = { evidence, told, reads, features, findings }

  const checked: Check[] = invariants.map(({ invariant, says, check }) => {
    const looked = check(trial)
    return { invariant, says, ...looked, broken: findings.count(invariant) }
  })
  const counts = accounts(trial)
  const available = availability(evidence, told)
  const occasions = evidence.needed.occasions === true ? coverage(trial) : []
  const reasons = missing(trial, available, occasions)
  const exposed = exposedOrders(trial)
  const count = (invariant: Invariant) => findings.count(invariant)

  return {
    verdict: checked.some(({ broken }) => broken > 0) ? 'broken' : reasons.length > 0 ? 'unknown' : 'held',
    scenario,
    target,
    seed,
    startedAt,
    duration,
    ...counts,
    lost: count('lost'),
    phantom: count('phantom'),
    resurrected: count('resurrected'),
    duplicated: count('duplicated'),
    replayMismatch: count('replayMismatch'),
    wrongContent: count('wrongContent'),
    oversold: count('oversold'),
    outboxMissing: count('outboxMissing'),
    undelivered: count('undelivered'),
    state: count('state'),
    wrongRead: count('wrongRead'),
    notListed: count('notListed'),
    notStreamed: count('notStreamed'),
    wrongTransition: count('wrongTransition'),
    falseRefusal: count('falseRefusal'),
    abandoned: count('abandoned'),
    falseReport: count('falseReport'),
    uncleanStop: count('uncleanStop'),
    failedRequest: count('failedRequest'),
    exposed,
    lossBound: exposed > 0 && count('lost') === 0 ? 3 / exposed : null,
    ...available,
    coverage: occasions,
    missing: reasons,
    checked,
    counterexamples: counterexamples(trial),
    environment
  }
}

/** Acknowledged before the last fault. */
function exposedOrders ({ evidence: { faults }, told }: Case): number {
  const last = faults.reduce((last, { at }) => Math.max(last, at), -Infinity)
  return [...told.orders.values()].filter(({ acknowledgements: [first] }) => (first?.completion?.at ?? Infinity) < last).length
}

/** As they stood when the load ended: what the settling found out does not change what the clients knew. */
function accounts ({ told, reads }: Case): Pick<Verdict, 'attempted' | 'acknowledged' | 'refused' | 'unknown' | 'recovered'> {
  const counts = { attempted: 0, acknowledged: 0, refused: 0, unknown: 0, recovered: 0 }
  const first = reads.find(({ afterSettling }) => !afterSettling)
  for (const order of told.orders.values()) {
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
