import { execFileSync } from 'node:child_process'
import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { Progress } from '../../verify/progress.ts'
import { random } from '../../verify/random.ts'
import { inProduction, node } from '../../proof/order-service.ts'
import { ratioOf } from '../drain/ratio.ts'
import { shuffled } from '../shuffled.ts'
import { Contest, warmUpClients } from './contest.ts'
import type { Contestant } from './contestants.ts'
import { median, medianOf, type Figures } from './figures.ts'
import type { HttpService } from './http-service.ts'
import { environmentLines, whole } from './table.ts'

/** On a busy machine a 503 would end the measurement. */
const patience = { REQUEST_TIMEOUT_MS: '60000', DRAIN_DEADLINE_MS: '70000' }

export interface Variant {
  readonly name: string
  /** Settings of the service, in addition to those of production. */
  readonly settings?: Readonly<Record<string, string>>
  /** The commit whose files it runs, with the modules and the schema of this one; default: the working copy. */
  readonly commit?: string
}

export interface CostOptions {
  readonly clients: number
  /** Rounds; each has new processes and new databases, which run at the same time. */
  readonly rounds: number
  /** Turns in a round: in each turn every process is loaded once; the sequence is shuffled. */
  readonly turns: number
  readonly seconds: number
  readonly seed: number
}

export interface Entrant {
  readonly name: string
  readonly contestant: Contestant
}

/** Prints the CPU time of an order, for the service and for Postgres, in each variant, and in multiples of the first variant. */
export async function printCosts (variants: readonly Variant[], { clients, rounds, turns, seconds, seed }: CostOptions): Promise<void> {
  // Each module that starts a process ends it in an exit handler.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
  const contest = await Contest.create()
  const trees: string[] = []
  const progress = new Progress(process.stderr)

  /** All run at once and are loaded in turns, so that a slow moment of the machine affects all of them. */
  async function measureRound (entrants: Entrant[], next: () => number, round: number): Promise<Map<Entrant, Figures[]>> {
    const running: Array<{ entrant: Entrant, service: HttpService, database: string, figures: Figures[] }> = []
    const conditions = { clients, products: 'uniform' as const, lines: 1, warmUpMs: 500, measureMs: seconds * 1_000 }
    try {
      for (const entrant of shuffled(entrants, next)) {
        const database = await contest.createDatabase('uniform')
        const service = await contest.startService(entrant.contestant, database, Math.max(clients, warmUpClients))
        running.push({ entrant, service, database, figures: [] })
        progress.state(`round ${round}: ${entrant.name} warms up`)
        await contest.measureRunning(service, database, { ...conditions, warmUpMs: 4_000, measureMs: 100 })
      }
      for (let turn = 1; turn <= turns; turn++) {
        for (const { entrant, service, database, figures } of shuffled(running, next)) {
          progress.state(`round ${round} of ${rounds}, turn ${turn} of ${turns}: ${entrant.name}`)
          figures.push(await contest.measureRunning(service, database, conditions))
        }
      }
    } finally {
      await Promise.all(running.map(({ service }) => service.stop()))
      for (const { database } of running) await contest.dropDatabase(database)
    }
    progress.line(`round ${round}  ${running.map(({ entrant: { name }, figures }) => `${name}: ${cpuOf(medianOf(figures)).toFixed(1)} µs`).join('  ')}`)
    return new Map(running.map(({ entrant, figures }) => [entrant, figures]))
  }

  try {
    const entrants = variants.map(({ name, settings = {}, commit }) => entrantOf(name, settings, commit === undefined ? join(import.meta.dirname, '../..') : checkOut(commit, contest.directory, trees)))
    const [base] = entrants
    if (base === undefined) throw new Error('There is nothing to measure.')
    console.log(`CPU time an order, ${clients} clients. ${rounds} rounds of ${turns} turns of ${seconds} s, seed ${seed}.\n\n${environmentLines(await contest.environment()).join('\n')}\n`)

    const measured = new Map<Entrant, Figures[]>(entrants.map(entrant => [entrant, []]))
    const next = random(seed)
    for (let round = 1; round <= rounds; round++) {
      for (const [entrant, figures] of await measureRound(entrants, next, round)) measured.get(entrant)?.push(...figures)
    }

    const width = Math.max(...entrants.map(({ name }) => name.length))
    console.log(`  ${''.padEnd(width)}  orders/s    µs of CPU an order: service  Postgres    both, in multiples of ${base.name}: median of the turns, and the 95 % interval`)
    for (const [entrant, turns] of measured) {
      const { rate, cpuUs } = medianOf(turns)
      const pairs = turns.map((figures, turn) => [cpuOf(figures), cpuOf(measured.get(base)?.[turn])] as const)
      const { interval: [low, high] } = ratioOf(pairs)
      const ratio = entrant === base ? '' : `${median(pairs.map(([a, b]) => a / b)).toFixed(3)} ×  ${low.toFixed(3)} to ${high.toFixed(3)}`
      console.log(`  ${entrant.name.padEnd(width)}  ${whole(rate).padStart(8)}  ${(cpuUs.service ?? NaN).toFixed(1).padStart(28)}  ${cpuUs.postgres.toFixed(1).padStart(8)}    ${ratio}`)
    }
  } finally {
    await contest.close()
    for (const tree of trees) execFileSync('git', ['worktree', 'remove', '--force', tree])
  }
}

function cpuOf (figures: Figures | undefined): number {
  return (figures?.cpuUs.service ?? NaN) + (figures?.cpuUs.postgres ?? NaN)
}

/** @param tree where the service's files are */
export function entrantOf (name: string, settings: Readonly<Record<string, string>>, tree: string): Entrant {
  return {
    name,
    contestant: {
      name: name.replace(/\W/g, '-'),
      says: '',
      takes: {
        stores: true,
        http: place => {
          const { env } = inProduction(place, { MIGRATE_ON_START: 'false', MAX_CONNECTIONS: String(place.clients + 100), DRAIN_MIN_MS: '0', DRAIN_QUIET_MS: '0', DRAIN_MAX_MS: '0', ORDER_EXPIRY_MS: '0', ...patience, ...settings })
          return { command: [...node, join(tree, 'server.ts')], env }
        }
      }
    }
  }
}

/** Checks that commit out, with the modules of this one. */
function checkOut (commit: string, directory: string, trees: string[]): string {
  const tree = join(directory, 'before')
  execFileSync('git', ['worktree', 'add', '--quiet', '--detach', tree, commit])
  trees.push(tree)
  symlinkSync(join(import.meta.dirname, '../../node_modules'), join(tree, 'node_modules'))
  execFileSync(join(tree, 'node_modules/.bin/prisma'), ['generate'], { cwd: tree, stdio: 'ignore' })
  return tree
}
