import { type Case, type Looked, noRead, subjectOfRow } from './case.ts'
import { bodyOf, keyOf, outcome } from './told.ts'

/** What is stored must have been asked for. */
export function phantom ({ told, reads, findings }: Case): Looked {
  if (reads.length === 0) return noRead
  let looked = 0
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

/** What was refused must not be stored. A key that came with several bodies was refused for the one, and perhaps not for the other. */
export function resurrected ({ told, reads, findings }: Case): Looked {
  if (reads.length === 0) return noRead
  let looked = 0
  for (const { snapshot } of reads) {
    for (const row of snapshot.orders) {
      const order = told.orders.get(keyOf(row))
      if (!order) continue
      looked++
      // Was it acknowledged, then it is no refusal that came back, whatever the row holds.
      if (order.acknowledgements.some(({ completion }) => completion?.order?.id === row.id)) continue
      const body = bodyOf(row)
      const asked = order.attempts.filter(attempt => attempt.body === body)
      if ((asked.length > 0 ? asked : order.attempts).every(attempt => outcome(attempt) === 'fail')) {
        findings.add('resurrected', subjectOfRow(row), `Order ${row.id} of ${row.customer} with key ${row.key} is stored, and whoever asked for it was told that it was not.`)
      }
    }
  }
  return { looked }
}
