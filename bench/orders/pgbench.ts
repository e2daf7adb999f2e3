import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { quantile } from '../drain/ratio.ts'
import type { LoadPhase } from './load.ts'

export interface PgbenchRun {
  readonly script: string
  readonly databaseUrl: string
  readonly clients: number
  /** Products in the catalogue. */
  readonly products: number
  /** Counted from the moment that all its clients are connected. */
  readonly warmUpMs: number
  readonly measureMs: number
  /** Counts its connections. */
  readonly connected: () => Promise<number>
  /** A folder for its logs, which are removed again. */
  readonly directory: string
  readonly onPhase: (phase: LoadPhase, pid: number) => void
}

export interface PgbenchResult {
  /** Transactions from the first to the last: this many orders must be stored. */
  readonly acknowledged: number
  readonly rate: number
  readonly latency: { readonly p50: number, readonly p99: number }
}

/** One transaction of the log. */
interface Transaction {
  /** Epoch, in ms. */
  readonly endedAtMs: number
  readonly latencyMs: number
}

/**
 * Runs pgbench with a connection for each client. The measured window is cut out of its log of transactions by time, so
 * that it does not include connecting and warming up.
 *
 * @throws Error if pgbench or one of its transactions fails
 */
export async function runPgbench (run: PgbenchRun): Promise<PgbenchResult> {
  const logs = await mkdtemp(join(run.directory, 'pgbench-'))
  try {
    const { fromMs, toMs } = await runToItsEnd(run, logs)
    const transactions: Transaction[] = []
    for (const name of await readdir(logs)) transactions.push(...readTransactions(await readFile(join(logs, name), 'utf8')))
    const { rate, latency } = cutOut(transactions, fromMs, toMs)
    if (rate === 0) throw new Error('Not one transaction ended within the measured time.')
    return { acknowledged: transactions.length, rate, latency }
  } finally {
    await rm(logs, { recursive: true })
  }
}

/** Longer than any measurement: pgbench's own time begins before its clients are connected, so this program ends it. */
const timeS = 86_400
const pollMs = 50

/** @returns the measured window */
async function runToItsEnd (
  { script, databaseUrl, clients, products, warmUpMs, measureMs, connected, onPhase }: PgbenchRun,
  logs: string
): Promise<{ fromMs: number, toMs: number }> {
  const { hostname, port, username, password, pathname } = new URL(databaseUrl)
  const child = spawn('pgbench', [
    '--no-vacuum', '--protocol=prepared', '--jobs=2', `--client=${clients}`, `--time=${timeS}`,
    `--file=${script}`, `--define=products=${products}`, '--log', `--log-prefix=${join(logs, 'log')}`
  ], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, PGHOST: hostname, PGPORT: port, PGUSER: username, PGPASSWORD: password, PGDATABASE: pathname.slice(1) }
  })
  let words = ''
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => { words += chunk })
  const closed = once(child, 'close') as Promise<[number | null]>
  const over = new AbortController()
  closed.then(() => over.abort(), () => over.abort())
  const phase = async (name: LoadPhase, inMs: number): Promise<number> => {
    await delay(inMs, undefined, { signal: over.signal })
    onPhase(name, child.pid ?? 0)
    return Date.now()
  }
  try {
    while (await connected() < clients) await delay(pollMs, undefined, { signal: over.signal })
    const fromMs = await phase('measuring', warmUpMs)
    const toMs = await phase('measured', measureMs)
    // The signal of its own timer: each client ends its transaction, and pgbench finishes the log.
    child.kill('SIGALRM')
    const [code] = await closed
    if (code === 0) return { fromMs, toMs }
  } catch (error) {
    if (!over.signal.aborted) throw error
  }
  const [code] = await closed
  throw new Error(`pgbench has ended with ${String(code)} in an error, or before the measured time was over: ${words.trim().split('\n').slice(-5).join(' ')}`)
}

/** Lines of `client transaction µs script epoch-s epoch-µs` (pgbench's manual, "Per-Transaction Logging"). */
export function readTransactions (log: string): Transaction[] {
  return log.split('\n').filter(line => line !== '').map(line => {
    const [, , latencyUs, , seconds, us] = line.split(' ').map(Number)
    return { endedAtMs: (seconds ?? NaN) * 1_000 + (us ?? NaN) / 1_000, latencyMs: (latencyUs ?? NaN) / 1_000 }
  })
}

/** The transactions that ended between two times. */
export function cutOut (transactions: readonly Transaction[], fromMs: number, toMs: number): Pick<PgbenchResult, 'rate' | 'latency'> {
  const latencies = transactions.filter(({ endedAtMs }) => endedAtMs >= fromMs && endedAtMs < toMs).map(({ latencyMs }) => latencyMs).sort((a, b) => a - b)
  return { rate: latencies.length / (toMs - fromMs) * 1_000, latency: { p50: quantile(latencies, 0.5), p99: quantile(latencies, 0.99) } }
}
