import { isCompletion, type Line } from '../history.ts'
import type { Feature, OrderStored } from '../target.ts'
import type { Circumstances } from './evidence.ts'

/** The promises that the service is held to: those that its target names or, if it names none, those that its answers show at least once. */
export class Features {
  readonly #named: ReadonlySet<Feature> | undefined
  readonly #shown = new Set<Feature>(['own-keys'])
  readonly #intrusions = new Set<number>()

  constructor ({ features, faults }: Pick<Circumstances, 'features' | 'faults'>) {
    this.#named = features && new Set(features)
    if (faults.some(({ report }) => report !== undefined)) this.#shown.add('report')
  }

  /** Complete when all lines and rows were seen. */
  get all (): ReadonlySet<Feature> {
    return this.#named ?? this.#shown
  }

  line (line: Line): void {
    if (this.#named !== undefined) return
    if (line.type === 'invoke' && line.purpose === 'intrude') this.#intrusions.add(line.op)
    if (!isCompletion(line)) return
    if (this.#intrusions.delete(line.op) && line.type === 'fail' && line.status !== undefined) this.#shown.add('own-orders')
    if (line.problem === 'forbidden') this.#shown.add('staff')
    if (line.replayed === true) this.#shown.add('replayed')
    if (line.etag !== undefined) this.#shown.add('etag')
    if (line.location !== undefined) this.#shown.add('location')
    if (line.requestId !== undefined) this.#shown.add('request-id')
    if (line.problem === 'version-mismatch') this.#shown.add('if-match')
    if (line.order?.reference != null) this.#shown.add('reference')
  }

  row ({ reference }: OrderStored): void {
    if (reference != null) this.#shown.add('reference')
  }
}
