import type { Check, Invariant, Verdict } from '../verdict.ts'
import { availability } from './availability.ts'
import type { Case, Looked } from './case.ts'
import { wrongContent } from './content.ts'
import { counterexamples } from './counterexamples.ts'
import { outboxMissing, state } from './events.ts'
import type { Evidence } from './evidence.ts'
import { Findings } from './findings.ts'
import { lost } from './lost.ts'
import { missing } from './missing.ts'
import { duplicated, replayMismatch } from './once.ts'
import { oversold } from './stock.ts'
import { failedRequest, uncleanStop } from './restarts.ts'
import { index } from './stored.ts'
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
  { invariant: 'state', check: state, says: 'What became of an order is a path of its states, without gaps.' },
  { invariant: 'uncleanStop', check: uncleanStop, says: 'Who was told to stop finished what was begun, and exited with 0.' },
  { invariant: 'failedRequest', check: failedRequest, says: 'No client notices that instances are restarted.' }
]

/** What the evidence shows. Pure: the same evidence gives the same verdict. */
export function judge (evidence: Evidence): Verdict {
  const { scenario, target, seed, startedAt, duration, environment, first, second } = evidence
  const told = follow(evidence.history, evidence.settle)
  const reads = [...first ? [index(first, false)] : [], ...second ? [index(second, true)] : []]
  const findings = new Findings()
  const trial: Case = { evidence, told, reads, findings }

  const checked: Check[] = invariants.map(({ invariant, says, check }) => {
    const looked = check(trial)
    return { invariant, says, ...looked, broken: findings.count(invariant) }
  })
  const counts = accounts(trial)
  const available = availability(evidence, told)
  const reasons = missing(trial, available.faults)
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
    state: count('state'),
    uncleanStop: count('uncleanStop'),
    failedRequest: count('failedRequest'),
    lossBound: counts.acknowledged > 0 && count('lost') === 0 ? 3 / counts.acknowledged : null,
    ...available,
    missing: reasons,
    checked,
    counterexamples: counterexamples(trial),
    environment
  }
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
