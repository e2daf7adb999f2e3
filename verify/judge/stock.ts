import { type Case, type Looked, noRead } from './case.ts'
import type { Overview } from './overview.ts'
import { keyOf, outcome, type Exchange } from './told.ts'

/** The largest number of possible stocks, with and without each unknown change. Changes of the same size make few. */
const mostSums = 10_000

/** Nothing is sold that was not in stock, and what was not sold is still in stock. This concerns everybody. */
export function oversold (trial: Case, overview: Overview): Looked {
  const { evidence, reads, findings } = trial
  if (reads.length === 0) return noRead
  let looked: number | null = null
  let because: string | undefined
  for (const { snapshot: { products }, afterSettling } of reads) {
    if (!products) continue
    const available = new Map(products.map(product => [product.sku, product.available]))
    const sold = overview.soldIn(afterSettling ? 'second' : 'first')
    const changes = changesOf(overview, afterSettling)
    for (const { sku, stock } of evidence.products) {
      const { sure, unsure } = changes.get(sku) ?? { sure: 0, unsure: [] }
      const sums = sumsOf(stock + sure, unsure)
      if (sums === undefined) {
        because = `Of ${unsure.length} changes of the stock of ${sku} nobody knows whether they were made.`
        continue
      }
      looked = (looked ?? 0) + 1
      const left = available.get(sku)
      const there = left === undefined ? undefined : left + (sold.get(sku) ?? 0)
      if (left !== undefined && left >= 0 && there !== undefined && sums.has(there)) continue
      findings.add('oversold', { sku }, `Of ${stock} ${sku}${sure === 0 ? '' : ` and ${sure} that came`}, ${sold.get(sku) ?? 0} are sold and ${left ?? 'none that is told of'} left.`)
    }
  }
  if (looked === null) return { looked, because: because ?? 'The target does not report its stock.' }
  return { looked, ...because !== undefined && { because } }
}

interface Changes {
  sure: number
  readonly unsure: number[]
}

/** The changes of each stock by staff: once for each key, however often it was requested. */
function changesOf ({ catalogue }: Overview, afterSettling: boolean): Map<string, Changes> {
  const asked = new Map<string, Exchange[]>()
  for (const exchange of catalogue) {
    const { operation, op } = exchange.invocation
    if ((operation.kind !== 'restock' && operation.kind !== 'stock') || (exchange.settling && !afterSettling)) continue
    const name = operation.kind === 'restock' ? keyOf(operation) : String(op)
    const exchanges = asked.get(name)
    if (exchanges) exchanges.push(exchange)
    else asked.set(name, [exchange])
  }
  const changes = new Map<string, Changes>()
  for (const exchanges of asked.values()) {
    const [{ invocation: { operation } }] = exchanges as [Exchange]
    if (operation.kind !== 'restock' && operation.kind !== 'stock') continue
    const of = changes.get(operation.sku) ?? { sure: 0, unsure: [] }
    changes.set(operation.sku, of)
    const delta = operation.kind === 'restock' ? operation.delta : operation.stock - operation.seen
    if (exchanges.some(exchange => outcome(exchange) === 'ok')) of.sure += delta
    else if (exchanges.some(exchange => outcome(exchange) === 'info')) of.unsure.push(delta)
  }
  return changes
}

/** All possible sums, with and without each unknown change; undefined if there are too many. */
function sumsOf (sure: number, unsure: readonly number[]): Set<number> | undefined {
  let sums = new Set([sure])
  for (const delta of unsure) {
    sums = new Set([...sums].flatMap(sum => [sum, sum + delta]))
    if (sums.size > mostSums) return undefined
  }
  return sums
}
