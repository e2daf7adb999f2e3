import { createHash } from 'node:crypto'
import { rmSync } from 'node:fs'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { now } from './history.ts'
import { isOpen } from './judge/stored.ts'
import { LineFile } from './lines.ts'
import type { SavedRead, StoredLine } from './saved.ts'
import type { Run, Snapshot, Target } from './target.ts'

const pollMs = 500
/** One read of a million orders takes a minute. */
const readsAtLeast = 4
/** Longer than a killed instance may hold the lease of an event that it was about to deliver. */
const usualLimitMs = 90_000

/**
 * Reads what is stored when nothing is under way any more: two reads are equal, every event was delivered, and every payment
 * and refund has its outcome. At the limit it takes the last read as it is; the judge then says what is missing. It writes the
 * read into a file, however large it is.
 *
 * @param file absolute path
 */
export async function saveAtRest (target: Pick<Target, 'snapshot'>, run: Run, file: string, limitMs = usualLimitMs): Promise<SavedRead & { readonly orders: number }> {
  const { digest: _, isDone: __, ...saved } = await atRest(async () => {
    // The previous read was not the last one.
    rmSync(file, { force: true })
    return await readInto(file, target, run)
  }, limitMs)
  return saved
}

/** The same in memory, for a short run. */
export async function readAtRest (target: Pick<Target, 'snapshot'>, run: Run, limitMs = usualLimitMs): Promise<Snapshot> {
  const { snapshot } = await atRest(async () => {
    const snapshot = await wholeSnapshot(target, run)
    return {
      snapshot,
      digest: JSON.stringify(snapshot),
      isDone: (snapshot.events?.every(({ delivered }) => delivered) ?? true) && ![...snapshot.payments ?? [], ...snapshot.refunds ?? []].some(isOpen)
    }
  }, limitMs)
  return snapshot
}

export async function wholeSnapshot (target: Pick<Target, 'snapshot'>, run: Run): Promise<Snapshot> {
  let whole: Snapshot = { orders: [] }
  for await (const { orders = [], products, events, payments, refunds } of pagesOf(target, run)) {
    whole = {
      ...whole,
      orders: [...whole.orders, ...orders],
      ...products && { products: [...whole.products ?? [], ...products] },
      ...events && { events: [...whole.events ?? [], ...events] },
      ...payments && { payments: [...whole.payments ?? [], ...payments] },
      ...refunds && { refunds: [...whole.refunds ?? [], ...refunds] }
    }
  }
  return whole
}

/** What is stored, page by page; a single page if the target gives all of it at once. */
export async function * pagesOf ({ snapshot }: Pick<Target, 'snapshot'>, run: Run): AsyncGenerator<Partial<Snapshot>> {
  const stored = snapshot(run)
  if (Symbol.asyncIterator in stored) yield * stored
  else yield await stored
}

interface Read {
  /** Equal for equal contents. */
  readonly digest: string
  readonly isDone: boolean
}

async function atRest<Of extends Read> (read: () => Promise<Of>, limitMs: number): Promise<Of> {
  const until = now() + limitMs
  let before: string | undefined
  for (let reads = 1; ; reads++) {
    const stored = await read()
    if ((stored.digest === before && stored.isDone) || (now() > until && reads >= readsAtLeast)) return stored
    before = stored.digest
    await delay(pollMs)
  }
}

async function readInto (path: string, target: Pick<Target, 'snapshot'>, run: Run): Promise<Read & SavedRead & { readonly orders: number }> {
  const file = new LineFile(path)
  const hash = createHash('sha256')
  let [count, isDone] = [0, true]
  let all: Pick<Snapshot, 'products'> = {}
  let [hasEvents, hasMoney] = [false, false]
  const write = (stored: StoredLine): void => {
    const line = JSON.stringify(stored)
    hash.update(line)
    file.append(line)
  }
  for await (const { orders = [], products, events, payments, refunds } of pagesOf(target, run)) {
    for (const order of orders) write({ order })
    count += orders.length
    for (const event of events ?? []) {
      write({ event })
      isDone &&= event.delivered
    }
    for (const payment of payments ?? []) {
      write({ payment })
      isDone &&= !isOpen(payment)
    }
    for (const refund of refunds ?? []) {
      write({ refund })
      isDone &&= !isOpen(refund)
    }
    hasEvents ||= events !== undefined
    hasMoney ||= payments !== undefined
    if (products) all = { products: [...all.products ?? [], ...products] }
  }
  file.flush()
  return { file: basename(path), ...all, events: hasEvents, ...hasMoney && { money: true }, orders: count, isDone, digest: hash.update(JSON.stringify(all)).digest('hex') }
}
