import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { availableParallelism, cpus } from 'node:os'
import { fileURLToPath } from 'node:url'
import { readArguments } from '../arguments.ts'
import { random } from '../../verify/random.ts'
import { shuffled } from '../shuffled.ts'
import { compare, measurePair } from './cost.ts'
import type { Comparison, Pair } from './cost.ts'
import { idleMs, longestMs, measureExits, peers } from './exit.ts'
import type { ExitTimes } from './exit.ts'
import { quantile } from './ratio.ts'
import type { Ratio } from './ratio.ts'

const help = `Measures what fastify-drain costs while the service runs, and how soon a stopped service exits.

npm run bench:drain -- [--pairs 30] [--exits 15] [--plugin fastify-drain] [--seed n] [--json]

--pairs   pairs of processes, with the plugin and without; 0 for none
--exits   stops of each kind for each package; 0 for none
--plugin  the module to measure: another build of the plugin, by its path
--seed    seed of the random sequence`

const options = readArguments({
  pairs: { type: 'string', default: '30' },
  exits: { type: 'string', default: '15' },
  plugin: { type: 'string', default: 'fastify-drain' },
  seed: { type: 'string', default: '1' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['pairs', 'exits', 'seed'])

const next = random(Number(options.seed))
/** The core of the servers; the clients use another. */
const core = pin() ? 0 : undefined
const conditions = {
  date: new Date().toISOString().slice(0, 10),
  node: process.version,
  cpu: `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'unknown'}`,
  pinned: core === undefined ? 'not pinned, as there is no taskset or no second core' : 'servers pinned to one core, clients to another'
}

const pairs: Pair[] = []
for (let pair = 1; pair <= Number(options.pairs); pair++) {
  progress(`pair ${pair} of ${options.pairs}`)
  pairs.push(await measurePair(options.plugin, core, next))
}
const cost = pairs.length === 0 ? undefined : { cpu: compare(pairs, 'cpu'), rate: compare(pairs, 'rate'), p99: compare(pairs, 'p99') }

const exits = new Map<string, ExitTimes>()
if (Number(options.exits) > 0) {
  if (!existsSync(new URL('../peers/node_modules', import.meta.url))) installPeers()
  for (const name of await peers()) exits.set(name, { afterAnswer: [], idle: [] })
}
const sleeping: Array<Promise<void>> = []
for (let stop = 1; stop <= Number(options.exits); stop++) {
  progress(`stop ${stop} of ${options.exits}`)
  sleeping.push(...await measureExits(new Map(shuffled([...exits], next)), core))
}
await Promise.all(sleeping)
progress('')

if (options.json) console.log(JSON.stringify({ conditions, cost, pairs, exits: Object.fromEntries(exits) }, null, 2))
else print()

function print (): void {
  console.log(`${conditions.date}, Node ${conditions.node}, ${conditions.cpu}; ${conditions.pinned}`)
  if (cost !== undefined) {
    console.log(`\nA small JSON route with the plugin against without, ${pairs.length} pairs; in brackets the 95 % interval (signed-rank)\n`)
    printComparison('CPU time per request', cost.cpu, `${median(pairs.map(({ without }) => without.cpu)).toFixed(1)} µs without`)
    printComparison('requests per second', cost.rate, `${median(pairs.map(({ without }) => without.rate)).toFixed(0)} without`)
    printComparison('p99 of the latency', cost.p99, `${median(pairs.map(({ without }) => without.p99)).toFixed(2)} ms without, 32 connections that never pause`)
    console.log('\nEach dot of a line is half a percent; | is 1.')
  }
  if (exits.size > 0) {
    printExits('From the last byte of the last answer to the exit', 'afterAnswer')
    printExits(`From the signal to the exit, with nothing to do for ${idleMs} ms`, 'idle')
  }
  console.log('\nNext: npm run soak')
}

function printComparison (title: string, { plugin, same }: Comparison, scale: string): void {
  console.log(`${title} (${scale})`)
  console.log(`  with : without      ${describe(plugin)}  ${picture(plugin)}`)
  console.log(`  the same server     ${describe(same)}  ${picture(same)}`)
}

function describe ({ ratio, interval: [from, to] }: Ratio): string {
  return `${ratio.toFixed(3)} [${from.toFixed(3)}, ${to.toFixed(3)}]`
}

/** From 0.90 to 1.10. */
function picture ({ ratio, interval: [from, to] }: Ratio): string {
  const column = (value: number): number => Math.min(40, Math.max(0, Math.round((value - 0.9) * 200)))
  const line: string[] = Array.from({ length: 41 }, (_, index) => index === 20 ? '|' : '·')
  line.fill('━', column(from), column(to) + 1)
  line[column(ratio)] = '●'
  return line.join('')
}

function printExits (title: string, kind: keyof ExitTimes): void {
  console.log(`\n${title}, ${options.exits} stops each, no lame duck (ms)\n`)
  const rows = [...exits].map(([name, times]) => ({ name, median: median(times[kind]), max: Math.max(...times[kind]) }))
  for (const row of rows.sort((a, b) => a.median - b.median)) {
    // A bar by the logarithm: 1 ms to 10 s.
    const bar = '█'.repeat(Math.max(1, Math.round(Math.log10(Math.max(1, row.median)) * 10)))
    console.log(`  ${row.name.padEnd(26)} median ${time(row.median)}   max ${time(row.max)}  ${bar}`)
  }
}

function time (ms: number): string {
  return (ms < longestMs ? ms.toFixed(0) : `> ${longestMs}`).padStart(6)
}

function median (values: readonly number[]): number {
  return quantile(values.toSorted((a, b) => a - b), 0.5)
}

/** Servers get core 0, and this process another, so that they do not take each other's time. */
function pin (): boolean {
  if (availableParallelism() < 2) return false
  try {
    execFileSync('taskset', ['-acp', '1', String(process.pid)], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function installPeers (): void {
  progress('installing the packages to compare with, into bench/peers')
  execFileSync('npm', ['ci', '--prefix', fileURLToPath(new URL('../peers', import.meta.url))], { stdio: ['ignore', 'ignore', 'inherit'] })
}

function progress (line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
  else if (line !== '') process.stderr.write(`${line}\n`)
}
