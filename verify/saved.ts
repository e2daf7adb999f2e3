import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { ledgerOf, type LedgerLine } from './gateway/ledger.ts'
import { historyOf } from './history-file.ts'
import type { Time } from './history.ts'
import { Company, Numbers } from './judge/company.ts'
import type { Circumstances, Evidence } from './judge/evidence.ts'
import { type JudgeOptions, Judging, type Part } from './judge/judge.ts'
import { Overview } from './judge/overview.ts'
import type { Placed, Told } from './judge/told.ts'
import { LineFile, linesOf } from './lines.ts'
import type { Delivery, EventStored, OrderStored, PaymentStored, RefundStored, Snapshot } from './target.ts'
import type { Verdict } from './verdict.ts'

/** The contents of `evidence.json`. File names are relative to its folder. */
export type Saved = Circumstances & {
  /** What the target lacks, and so was not requested or checked. */
  readonly skipped?: readonly string[]
  readonly history: string
  readonly settle: string
  readonly first?: SavedRead
  readonly second?: SavedRead
  /** One `Delivery` per line. */
  readonly deliveries?: string
  /** One `LedgerLine` per line. */
  readonly ledger?: string
}

/** The stored data: one `StoredLine` per line. The products, which are few, are here. */
export interface SavedRead {
  readonly file: string
  readonly products?: NonNullable<Snapshot['products']>
  /** Whether the target shows events. */
  readonly events: boolean
  /** Whether the target shows payments and refunds. */
  readonly money?: boolean
}

export type StoredLine =
  | { readonly order: OrderStored }
  | { readonly event: EventStored }
  | { readonly payment: PaymentStored }
  | { readonly refund: RefundStored }

/** Bytes of lines that are judged at once, by their size in the files; in memory they take several times as much. One company may have more. */
const usualShardBytes = 8 * 2 ** 20
/** Lines after which the event loop gets a turn. */
const turn = 5_000

export interface JudgeSavedOptions extends JudgeOptions {
  readonly shardBytes?: number
  /** Called for each part, with the time at which the first request of all was due. */
  readonly onTold?: (told: Told, beginning: Time) => void
  readonly onProgress?: ((says: string) => void) | undefined
}

/**
 * Judges the run in this folder, however long it was: lines that belong together are gathered in files of their own, which are
 * judged one after the other. A short run is judged as a whole.
 */
export async function judgeSaved (
  directory: string,
  { shardBytes = usualShardBytes, onTold, onProgress, ...options }: JudgeSavedOptions = {}
): Promise<Verdict> {
  const { history, settle, first, second, deliveries, ledger, skipped, ...circumstances } = readHeader(directory)
  const record: Recorded = { directory, history, settle, first, second, deliveries, ledger }
  const folder = join(directory, 'shards')
  // The leftovers of a killed process.
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder)
  try {
    const { overview, shards } = await divide(record, circumstances, { folder, shardBytes, onProgress })
    const judging = new Judging(circumstances, overview, { first: empty(first), second: empty(second) }, options)
    for (const [i, shard] of shards.entries()) {
      onProgress?.(`judging: part ${i + 1} of ${shards.length}`)
      const told = judging.add(await partOf(shard, record))
      onTold?.(told, overview.beginning)
    }
    for (const i of judging.suspects) judging.again(await partOf(shards[i] ?? '', record))
    return { ...judging.conclude(), ...skipped && { skipped } }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Reads a whole short run. */
export function readSaved (directory: string): Evidence {
  const { history, settle, first, second, deliveries, ledger, skipped: _, ...circumstances } = readHeader(directory)
  const of = <T>(file: string): T[] => Array.from(linesOf(join(directory, file)), line => JSON.parse(line.toString()) as T)
  const read = (saved: SavedRead | undefined): Snapshot | undefined => saved && snapshotOf(saved, of<StoredLine>(saved.file))
  return {
    ...circumstances,
    history: [...historyOf(join(directory, history))],
    settle: [...historyOf(join(directory, settle))],
    first: read(first),
    second: read(second),
    ...deliveries !== undefined && { deliveries: of<Delivery>(deliveries) },
    ...ledger !== undefined && { ledger: [...ledgerOf(join(directory, ledger))] }
  }
}

/** Writes evidence in memory to the files that `judgeSaved` and `readSaved` read. */
export function save (directory: string, { history, settle, first, second, deliveries, ledger, ...circumstances }: Evidence): void {
  const write = (file: string, lines: readonly unknown[]): string => {
    writeFileSync(join(directory, file), lines.map(line => JSON.stringify(line) + '\n').join(''))
    return file
  }
  const read = (file: string, { orders, products, events, payments, refunds }: Snapshot): SavedRead => ({
    file: write(file, [
      ...orders.map(order => ({ order })),
      ...events?.map(event => ({ event })) ?? [],
      ...payments?.map(payment => ({ payment })) ?? [],
      ...refunds?.map(refund => ({ refund })) ?? []
    ]),
    ...products && { products },
    events: events !== undefined,
    ...payments && { money: true }
  })
  writeHeader(directory, {
    ...circumstances,
    history: write('history.jsonl', history),
    settle: write('settle.jsonl', settle),
    ...first && { first: read('first.jsonl', first) },
    ...second && { second: read('second.jsonl', second) },
    ...deliveries && { deliveries: write('received.jsonl', deliveries) },
    ...ledger && { ledger: write('ledger.jsonl', ledger) }
  })
}

export function writeHeader (directory: string, saved: Saved): void {
  writeFileSync(join(directory, 'evidence.json'), JSON.stringify(saved))
}

export function readHeader (directory: string): Saved {
  return JSON.parse(readFileSync(join(directory, 'evidence.json'), 'utf8')) as Saved
}

interface Recorded {
  readonly directory: string
  readonly history: string
  readonly settle: string
  readonly first: SavedRead | undefined
  readonly second: SavedRead | undefined
  readonly deliveries: string | undefined
  readonly ledger: string | undefined
}

/** One of the files, and the kind of its lines. */
interface Source { readonly path: string, readonly kind: Kind }

/** The origin of a line in a shard. */
type Kind = 'load' | 'settling' | 'first' | 'second' | 'delivery' | 'ledger'

function sourcesOf ({ directory, history, settle, first, second, deliveries, ledger }: Recorded): Source[] {
  const source = (kind: Kind, file: string | undefined): Source[] => file === undefined ? [] : [{ kind, path: join(directory, file) }]
  return [...source('load', history), ...source('settling', settle), ...source('first', first?.file), ...source('second', second?.file), ...source('delivery', deliveries), ...source('ledger', ledger)]
}

/** Reads all lines twice: first to find out which belong together, and then to gather them. */
async function divide (record: Recorded, circumstances: Circumstances, { folder, shardBytes, onProgress }: { readonly folder: string } & Required<Pick<JudgeSavedOptions, 'shardBytes'>> & Pick<JudgeSavedOptions, 'onProgress'>): Promise<{ overview: Overview, shards: string[] }> {
  const overview = new Overview(circumstances)
  const company = new Company()
  const weights = new Numbers()
  const members = new Numbers()
  const sources = sourcesOf(record)
  let lines = 0
  for (const { path, kind } of sources) {
    for (const bytes of linesOf(path)) {
      if (++lines % turn === 0) await pause(() => onProgress?.(`judging: ${lines} lines seen`))
      const member = memberOf(company, overview, kind, bytes, lines)
      members.push(member)
      weights.add(member, bytes.length)
    }
  }
  const { shardOf, count } = company.shards(weights, shardBytes)
  const shards = Array.from({ length: count }, (_, i) => new LineFile(join(folder, `${i}.jsonl`)))
  let line = 0
  for (const { path, kind } of sources) {
    for (const bytes of linesOf(path)) {
      const shard = shardOf[members.at(line++)] ?? 0
      shards[shard]?.append(`${kind} ${line} `, bytes)
      if (line % turn === 0) await pause(() => onProgress?.(`judging: ${line} of ${lines} lines divided into ${count} parts`))
    }
  }
  for (const shard of shards) shard.flush()
  return { overview, shards: shards.map(({ path }) => path) }
}

function memberOf (company: Company, overview: Overview, kind: Kind, bytes: Buffer, at: number): number {
  const parsed: unknown = JSON.parse(bytes.toString())
  if (kind === 'delivery') return company.event((parsed as Delivery).orderId)
  if (kind === 'ledger') {
    const moved = parsed as LedgerLine
    return company.event('charge' in moved ? moved.charge.order : moved.refund.order)
  }
  if (kind === 'first' || kind === 'second') {
    const stored = parsed as StoredLine
    if ('event' in stored) return company.event(stored.event.orderId)
    if ('payment' in stored) return company.event(stored.payment.orderId)
    if ('refund' in stored) return company.event(stored.refund.orderId)
    overview.row(stored.order, kind)
    return company.row(stored.order)
  }
  const line = parsed as Placed['line']
  overview.line({ line, at, settling: kind === 'settling' })
  return company.line(line, kind === 'settling')
}

async function partOf (shard: string, { first, second, deliveries, ledger }: Recorded): Promise<Part> {
  const lines: Placed[] = []
  const stored = { first: [] as StoredLine[], second: [] as StoredLine[] }
  const received: Delivery[] = []
  const moved: LedgerLine[] = []
  let count = 0
  for (const bytes of linesOf(shard)) {
    if (++count % turn === 0) await pause()
    const [kind, at, json] = partsOf(bytes)
    const parsed: unknown = JSON.parse(json)
    if (kind === 'first' || kind === 'second') stored[kind].push(parsed as StoredLine)
    else if (kind === 'delivery') received.push(parsed as Delivery)
    else if (kind === 'ledger') moved.push(parsed as LedgerLine)
    else lines.push({ line: parsed as Placed['line'], at, settling: kind === 'settling' })
  }
  return {
    lines,
    first: first && snapshotOf(first, stored.first),
    second: second && snapshotOf(second, stored.second),
    ...deliveries !== undefined && { deliveries: received },
    ...ledger !== undefined && { ledger: moved }
  }
}

function partsOf (bytes: Buffer): [kind: Kind, at: number, json: string] {
  const [first, second] = [bytes.indexOf(' '), bytes.indexOf(' ', bytes.indexOf(' ') + 1)]
  return [bytes.toString('latin1', 0, first) as Kind, Number(bytes.toString('latin1', first + 1, second)), bytes.toString('utf8', second + 1)]
}

function snapshotOf ({ products, events, money = false }: SavedRead, lines: readonly StoredLine[]): Snapshot {
  return {
    orders: lines.flatMap(line => 'order' in line ? line.order : []),
    ...products && { products },
    ...events && { events: lines.flatMap(line => 'event' in line ? line.event : []) },
    ...money && { payments: lines.flatMap(line => 'payment' in line ? line.payment : []), refunds: lines.flatMap(line => 'refund' in line ? line.refund : []) }
  }
}

function empty (saved: SavedRead | undefined): Snapshot | undefined {
  return saved && snapshotOf(saved, [])
}

async function pause (then?: () => void): Promise<void> {
  then?.()
  await setImmediate()
}
