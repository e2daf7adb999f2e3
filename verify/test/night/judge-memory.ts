// Measures what it takes to judge a long run, without running one: repeats the evidence of a short run, each time with customers,
// orders and products of its own. Run it by hand:
//
//   node verify/test/night/judge-memory.ts .verify/<run> 150 /var/tmp/long
import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { digestOf } from '../../digest.ts'
import { isCompletion, type Line, type OrderAnswered } from '../../history.ts'
import { historyOf } from '../../history-file.ts'
import type { Struck } from '../../judge/evidence.ts'
import { LineFile } from '../../lines.ts'
import { judgeAgain } from '../../judge-again.ts'
import { Progress } from '../../progress.ts'
import { readSaved, writeHeader } from '../../saved.ts'
import type { Product, Snapshot } from '../../target.ts'

const [from = '', times = '150', to = ''] = process.argv.slice(2)
const directory = resolve(to)
const { history, settle, first, second, deliveries = [], ledger, ...circumstances } = readSaved(resolve(from))
const copies = Array.from({ length: Number(times) }, (_, i) => i)

const ats = [...history, ...settle].map(({ at }) => at)
const lasts = ats.reduce((last, at) => Math.max(last, at), -Infinity) - ats.reduce((first, at) => Math.min(first, at), Infinity) + 60_000
const ops = [...history, ...settle].reduce((last, line) => 'op' in line ? Math.max(last, line.op) : last, 0)
const answers = new Map([...history, ...settle].flatMap(line => isCompletion(line) && line.order?.version === 1 ? [[line.order.id, line.order] as const] : []))

/** The same as of another run: with other names, and at a later time. */
function copied<T> (value: T, copy: number, later = copy): T {
  const names = JSON.stringify(value)
    .replace(/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-)[0-9a-f]{4}(-[0-9a-f]{12})/g, (_, head: string, tail: string) => `${head}${copy.toString(16).padStart(4, '0')}${tail}`)
    .replace(/"((?:customer|staff)-[^"]*)"/g, `"$1-${copy}"`)
    .replace(/"sku":"([^"]*)"/g, `"sku":"$1-${copy}"`)
  return JSON.parse(names, (name, of) => ['at', 'scheduled', 'sent', 'recoveredAt', 'startedAt'].includes(name) && typeof of === 'number' ? of + later * lasts : of)
}

function copiedLine (line: Line, copy: number, later = copy): Line {
  const other = copied(line, copy, later)
  if (!('op' in other)) return other
  const numbered = { ...other, op: other.op + copy * ops }
  if (numbered.type === 'invoke' && numbered.operation.kind === 'list') return { ...numbered, operation: { ...numbered.operation, walk: (numbered.operation.walk ?? 0) + copy * ops } }
  if (!isCompletion(line) || line.shown === undefined || !isCompletion(numbered)) return numbered
  return {
    ...numbered,
    shown: line.shown.map(shown =>
      ({ ...copied(shown, copy), ...answers.has(shown.id) && { digest: digestOf(copied(answers.get(shown.id) as OrderAnswered, copy)) } }))
  }
}

mkdirSync(directory, { recursive: true })
function write (name: string, lines: readonly unknown[], copyOf: (line: never, copy: number) => unknown): string {
  const file = new LineFile(join(directory, name))
  for (const copy of copies) for (const line of lines) file.append(JSON.stringify(copyOf(line as never, copy)))
  file.flush()
  return name
}
const read = (name: string, snapshot: Snapshot | undefined) => snapshot && {
  file: write(name, [
    ...snapshot.orders.map(order => ({ order })),
    ...snapshot.events?.map(event => ({ event })) ?? [],
    ...snapshot.payments?.map(payment => ({ payment })) ?? [],
    ...snapshot.refunds?.map(refund => ({ refund })) ?? []
  ], copied),
  ...snapshot.products && { products: copies.flatMap(copy => copied(snapshot.products ?? [], copy)) },
  events: snapshot.events !== undefined,
  ...snapshot.payments && { money: true }
}
const [one, two] = [read('first.jsonl', first), read('second.jsonl', second)]
writeHeader(directory, {
  ...circumstances,
  history: write('history.jsonl', history, copiedLine),
  // These lines come after the last of the load.
  settle: write('settle.jsonl', settle, (line, copy) => copiedLine(line, copy, copies.length + copy)),
  deliveries: write('received.jsonl', deliveries, copied),
  ...ledger && { ledger: write('ledger.jsonl', ledger, copied) },
  ...one && { first: one },
  ...two && { second: two },
  faults: copies.flatMap(copy => circumstances.faults.map((fault): Struck => copied(fault, copy))),
  products: copies.flatMap(copy => circumstances.products.map((product): Product => copied(product, copy)))
})

let lines = 0
for (const name of ['history.jsonl', 'settle.jsonl']) lines += Iterator.from(historyOf(join(directory, name))).reduce(count => count + 1, 0)
global.gc?.()
const before = process.memoryUsage.rss()
const startedAt = performance.now()
const { verdict, acknowledged, faults, missing, counterexamples } = await judgeAgain({ directory, progress: new Progress(process.stdout) })
const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20)
console.log(JSON.stringify({ verdict, acknowledged, faults: faults.length, missing, says: counterexamples[0]?.says }))
console.log(`${lines} lines, ${Math.round((performance.now() - startedAt) / 1_000)} s, ${mebibytes(before)} MiB before, at most ${mebibytes(process.resourceUsage().maxRSS * 1_024)} MiB in all`)
