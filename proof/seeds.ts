import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { balancerNames } from '../verify/balancer.ts'
import { trialsOf } from './controls/controls.ts'
import { proveControls } from './controls/prove.ts'
import { home } from './home.ts'
import { Progress } from '../verify/progress.ts'
import { names } from '../verify/report/words.ts'
import { run, type RunOptions } from '../verify/run.ts'
import { managerNames, scenarioNames } from '../verify/scenarios.ts'
import type { Verdict } from '../verify/verdict.ts'

const usage = `Usage: npm run verify:seeds -- [--seeds 1-5] [--out DIR] [ROW …]

Runs every scenario with the whole service, and every control with the broken one, once with each seed, and prints one
table. With every seed a scenario must be held, and a control caught. Exit: 0 it is so, 1 something was broken or not
caught, 2 something could not be said.

Rows: `

/** One row of the table: the same settings with each seed. */
interface Row {
  readonly name: string
  readonly prove: (seed: number, directory: string, progress: Progress) => Promise<Cell>
}

interface Cell {
  readonly exit: 0 | 1 | 2
  /** The text in the table. */
  readonly says: string
  /** Further text below the table. */
  readonly more?: string
}

/** s of load that give each promise enough occasions; longer if a round of faults takes longer. */
const usualSeconds = 20
const seconds: Readonly<Record<string, number>> = { rolling: 30, failover: 40, 'failover:patroni': 300, brownout: 40, broker: 40, 'disk-full': 40, restore: 30, payments: 60, hostile: 100, all: 170 }
const rate = 200
const clients = 64

/** Two faults at once: one pair for each two things that faults strike. */
const pairs = ['term+database-crash', 'kill+failover', 'rolling+brownout', 'term+clock', 'term+broker']

const rows: readonly Row[] = [
  ...scenarioNames.flatMap(scenario => {
    if (scenario === 'rolling') return balancerNames.map(balancer => unharmed(`rolling:${balancer}`, { scenario, balancer }))
    if (scenario === 'failover') return managerNames.map(manager => unharmed(manager === 'harness' ? scenario : `${scenario}:${manager}`, { scenario, manager }))
    return unharmed(scenario, { scenario })
  }),
  ...pairs.map(scenario => unharmed(scenario, { scenario })),
  { name: 'controls', prove: proveAll }
]

process.exitCode = await main()

async function main (): Promise<Cell['exit']> {
  const { values: { seeds: asked = '1-5', out, help }, positionals } = parseArgs({ allowPositionals: true, options: { seeds: { type: 'string' }, out: { type: 'string' }, help: { type: 'boolean' } } })
  const seeds = seedsIn(asked)
  const unknown = positionals.filter(name => !rows.some(row => row.name === name))
  if (help === true || seeds.length === 0 || unknown.length > 0) {
    for (const name of unknown) console.error(`There is no row ${name}. Nothing was started.`)
    if (seeds.length === 0) console.error(`--seeds is "${asked}"; it takes numbers and ranges, as 1-5 or 1,7,11. Nothing was started.`)
    console.log(usage + rows.map(({ name }) => name).join(', '))
    return help === true ? 0 : 2
  }
  const directory = resolve(out ?? join('.verify', `${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}-seeds`))
  mkdirSync(directory, { recursive: true })
  if (readdirSync(directory).length > 0) {
    console.error(`--out is ${directory}, which is not an empty folder. Nothing was started.`)
    return 2
  }
  const progress = new Progress(process.stdout)
  const chosen = rows.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
  const cells = new Map<string, Cell>()
  // Seed by seed, so that an early end leaves every row with the finished seeds.
  for (const seed of seeds) {
    for (const row of chosen) {
      const name = `${row.name}-${seed}`
      const cell = await row.prove(seed, join(directory, name), progress).catch((error: unknown): Cell => ({ exit: 2, says: 'no verdict', more: String(error) }))
      cells.set(name, cell)
      progress.line(`${row.name}, seed ${seed}: ${cell.says}`)
      writeFileSync(join(directory, 'seeds.md'), tableOf(chosen, seeds, cells))
    }
  }
  progress.end('\n' + tableOf(chosen, seeds, cells))
  progress.end(`\nThe evidence of each run is in ${relative('', directory)}, in a folder of its row and seed; the table is in seeds.md.`)
  const exits = [...cells.values()].map(({ exit }) => exit)
  return exits.includes(1) ? 1 : exits.includes(2) ? 2 : 0
}

function unharmed (name: string, options: Pick<RunOptions, 'scenario' | 'balancer' | 'manager'>): Row {
  return {
    name,
    async prove (seed, directory, progress) {
      const verdict = await run({
        ...options,
        targetFile: home.targetFile,
        home,
        duration: 1_000 * (seconds[name] ?? seconds[options.scenario] ?? usualSeconds),
        rate,
        clients,
        seed,
        directory,
        progress: { line: text => progress.line(`${name}, seed ${seed}: ${text}`), state: text => progress.state(`${name}, seed ${seed}: ${text}`) }
      })
      const more = verdict.verdict === 'broken' ? verdict.counterexamples[0]?.says : verdict.missing[0]
      return { exit: verdict.verdict === 'held' ? 0 : verdict.verdict === 'broken' ? 1 : 2, says: inWords(verdict), ...more !== undefined && { more } }
    }
  }
}

function inWords ({ verdict, checked, faults, acknowledged }: Verdict): string {
  if (verdict === 'broken') return `BROKEN: ${checked.flatMap(({ invariant, broken }) => broken > 0 ? `${names[invariant]} ${broken}` : []).join(', ')}`
  return verdict === 'unknown' ? 'unknown' : `held: ${acknowledged} orders, ${faults.length} faults`
}

async function proveAll (seed: number, directory: string, progress: Progress): Promise<Cell> {
  const proved = await proveControls(trialsOf('all'), { seed, directory, progress, home })
  const missed = proved.flatMap(({ control: { name }, isCaught }) => isCaught ? [] : name)
  return { exit: missed.length === 0 ? 0 : 1, says: `${proved.length - missed.length} of ${proved.length} caught`, ...missed.length > 0 && { more: `Not caught: ${missed.join(', ')}.` } }
}

/** The table in Markdown: a row for each scenario, a column for each seed, and longer texts below. */
function tableOf (rows: readonly Row[], seeds: readonly number[], cells: ReadonlyMap<string, Cell>): string {
  const lines = rows.map(({ name }) => [name, ...seeds.map(seed => cells.get(`${name}-${seed}`)?.says ?? 'not run')])
  const [head = [], ...body] = [['', ...seeds.map(seed => `seed ${seed}`)], ...lines]
  const widths = head.map((_, column) => Math.max(...[head, ...body].map(line => line[column]?.length ?? 0)))
  const line = (cells: readonly string[]): string => `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`
  const more = [...cells].flatMap(([name, { exit, more }]) => exit === 0 || more === undefined ? [] : `- ${name}: ${more}`)
  return [line(head), line(widths.map(width => '-'.repeat(width))), ...body.map(line), ...more.length === 0 ? [] : ['', ...more]].join('\n') + '\n'
}

/** The seeds of a list of numbers and ranges; none if it is no such list. */
function seedsIn (text: string): number[] {
  if (!/^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(text)) return []
  return text.split(',').flatMap(part => {
    const [from = 0, to = from] = part.split('-').map(Number)
    return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i)
  })
}
