import { isCompletion } from '../history.ts'
import type { Feature } from '../target.ts'
import type { Evidence } from './evidence.ts'

/** What the service is held to: what its target names; where that names nothing, whatever its answers show at least once. */
export function featuresOf (evidence: Pick<Evidence, 'features' | 'history' | 'settle' | 'first' | 'second' | 'faults'>): ReadonlySet<Feature> {
  if (evidence.features !== undefined) return new Set(evidence.features)
  const shown = new Set<Feature>(['own-keys'])
  for (const lines of [evidence.history, evidence.settle]) {
    const intrusions = new Set<number>()
    for (const line of lines) {
      if (line.type === 'invoke' && line.purpose === 'intrude') intrusions.add(line.op)
      if (!isCompletion(line)) continue
      if (line.type === 'fail' && line.status !== undefined && intrusions.has(line.op)) shown.add('own-orders')
      if (line.problem === 'forbidden') shown.add('staff')
      if (line.replayed === true) shown.add('replayed')
      if (line.etag !== undefined) shown.add('etag')
      if (line.location !== undefined) shown.add('location')
      if (line.requestId !== undefined) shown.add('request-id')
      if (line.problem === 'version-mismatch') shown.add('if-match')
      if (line.order?.reference != null) shown.add('reference')
    }
  }
  if ([evidence.first, evidence.second].some(read => read?.orders.some(({ reference }) => reference != null))) shown.add('reference')
  if (evidence.faults.some(({ report }) => report !== undefined)) shown.add('report')
  return shown
}
