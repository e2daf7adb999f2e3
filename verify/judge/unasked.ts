import { type Case, type Looked, noRead, subjectOf, subjectOfRow } from './case.ts'
import { unaskedSteps } from './steps.ts'
import { bodyOf, keyOf, outcome } from './told.ts'

/** Every stored order and transition must have been asked for. */
export function phantom (trial: Case): Looked {
  const { told, reads, findings } = trial
  if (reads.length === 0) return noRead
  let looked = unaskedSteps(trial, (invariant, id, says) => {
    if (invariant === 'phantom') findings.add(invariant, subjectOf(trial, id), says)
  })
  for (const { snapshot } of reads) {
    for (const row of snapshot.orders) {
      looked++
      if (!told.orders.has(keyOf(row))) {
        findings.add('phantom', subjectOfRow(row), `Order ${row.id} of ${row.customer} with key ${row.key} is stored, and nobody asked for it.`)
      }
    }
  }
  return { looked }
}

/** A refused order must not be stored. If a key was sent with several bodies, one may have been refused and another not. */
export function resurrected (trial: Case): Looked {
  const { told, reads, features, findings } = trial
  if (reads.length === 0) return noRead
  let looked = unaskedSteps(trial, (invariant, id, says) => {
    if (invariant === 'resurrected') findings.add(invariant, subjectOf(trial, id), says)
  })
  for (const { snapshot } of reads) {
    for (const row of snapshot.orders) {
      const order = told.orders.get(keyOf(row))
      if (!order) continue
      looked++
      // If the order was acknowledged, its row does not contradict a refusal, whatever it contains.
      if (order.acknowledgements.some(({ completion }) => completion?.order?.id === row.id)) continue
      const body = bodyOf(row, features.has('reference'))
      const asked = order.attempts.filter(attempt => attempt.body === body)
      if ((asked.length > 0 ? asked : order.attempts).every(attempt => outcome(attempt) === 'fail')) {
        findings.add('resurrected', subjectOfRow(row), `Order ${row.id} of ${row.customer} with key ${row.key} is stored, and whoever asked for it was told that it was not.`)
      }
    }
  }
  return { looked }
}
