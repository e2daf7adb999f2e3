import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { symlinkSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Progress } from '../../verify/progress.ts'
import { random } from '../../verify/random.ts'
import { inProduction, node } from '../../verify/targets/order-service.ts'
import { readArguments } from '../arguments.ts'
import { ratioOf } from '../drain/ratio.ts'
import { shuffled } from '../shuffled.ts'
import { Contest, warmUpClients } from './contest.ts'
import type { Contestant } from './contestants.ts'
import { median, medianOf, type Figures } from './figures.ts'
import type { HttpService } from './http-service.ts'
import { environmentLines, whole } from './table.ts'

const HELP = `What tracing costs: CPU time an order, of the service and of Postgres, without traces and with a share of them.

node bench/orders/tracing.ts [--before commit] [--clients 64] [--rounds 6] [--turns 4] [--seconds 3] [--shares 0.01,1] [--seed 1]

--before   also the commit before tracing, on the same modules and the same schema
--rounds   each with new processes and new databases, which run at the same time
--turns    in a round: in each one every process is loaded once, in an order of its own
--shares   of the traces, sampled by the service itself`

/** On a machine that others keep busy a 503 would end the measurement. */
const patience = { REQUEST_TIMEOUT_MS: '60000', DRAIN_DEADLINE_MS: '70000' }

interface Variant {
  readonly name: string
  readonly contestant: Contestant
}

// What runs is ended by the exit handlers of those who started it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const options = readArguments({
  before: { type: 'string' },
  clients: { type: 'string', default: '64' },
  rounds: { type: 'string', default: '6' },
  turns: { type: 'string', default: '4' },
  seconds: { type: 'string', default: '3' },
  shares: { type: 'string', default: '0.01,1' },
  seed: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h', default: false }
}, HELP, ['clients', 'rounds', 'turns', 'seconds', 'seed'])
const [clients, rounds, turns] = [Number(options.clients), Number(options.rounds), Number(options.turns)]

// Takes spans, and forgets them.
const collector = createServer((request, response) => {
  request.resume().on('end', () => response.setHeader('content-type', 'application/json').end('{}'))
}).listen(0, '127.0.0.1')
await once(collector, 'listening')
const contest = await Contest.create()
const trees: string[] = []
const progress = new Progress(process.stderr)
try {
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  const off = variant('off', {})
  const variants = [
    off,
    ...options.before === undefined ? [] : [variant('before', {}, checkOut(options.before))],
    ...options.shares.split(',').map(share => variant(`${Number(share) * 100} %`, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: share }))
  ]
  const environment = await contest.environment()
  console.log(`CPU time an order, ${clients} clients. ${rounds} rounds of ${turns} turns of ${options.seconds} s, seed ${options.seed}.\n\n${environmentLines(environment).join('\n')}\n`)

  const measured = new Map<Variant, Figures[]>(variants.map(variant => [variant, []]))
  const next = random(Number(options.seed))
  for (let round = 1; round <= rounds; round++) {
    for (const [variant, figures] of await measureRound(variants, next, round)) measured.get(variant)?.push(...figures)
  }

  const base = variants.find(({ name }) => name === 'before') ?? off
  const width = Math.max(...variants.map(({ name }) => name.length))
  console.log(`  ${''.padEnd(width)}  orders/s    µs of CPU an order: service  Postgres    both, in multiples of ${base.name}: median of the turns, and the 95 % interval`)
  for (const [variant, turns] of measured) {
    const { rate, cpuUs } = medianOf(turns)
    const pairs = turns.map((figures, turn) => [cpuOf(figures), cpuOf(measured.get(base)?.[turn])] as const)
    const { interval: [low, high] } = ratioOf(pairs)
    const ratio = variant === base ? '' : `${median(pairs.map(([a, b]) => a / b)).toFixed(3)} ×  ${low.toFixed(3)} to ${high.toFixed(3)}`
    console.log(`  ${variant.name.padEnd(width)}  ${whole(rate).padStart(8)}  ${(cpuUs.service ?? NaN).toFixed(1).padStart(28)}  ${cpuUs.postgres.toFixed(1).padStart(8)}    ${ratio}`)
  }
} finally {
  await contest.close()
  collector.closeAllConnections()
  collector.close()
  for (const tree of trees) execFileSync('git', ['worktree', 'remove', '--force', tree])
}

/** All run at once and are loaded in turns: what the machine does meanwhile, it does to all of them. */
async function measureRound (variants: Variant[], next: () => number, round: number): Promise<Map<Variant, Figures[]>> {
  const running: Array<{ variant: Variant, service: HttpService, database: string, figures: Figures[] }> = []
  const conditions = { clients, products: 'uniform' as const, lines: 1, warmUpMs: 500, measureMs: Number(options.seconds) * 1_000 }
  try {
    for (const variant of shuffled(variants, next)) {
      const database = await contest.createDatabase('uniform')
      const service = await contest.startService(variant.contestant, database, Math.max(clients, warmUpClients))
      running.push({ variant, service, database, figures: [] })
      progress.state(`round ${round}: ${variant.name} warms up`)
      await contest.measureRunning(service, database, { ...conditions, warmUpMs: 4_000, measureMs: 100 })
    }
    for (let turn = 1; turn <= turns; turn++) {
      for (const { variant, service, database, figures } of shuffled(running, next)) {
        progress.state(`round ${round} of ${rounds}, turn ${turn} of ${turns}: ${variant.name}`)
        figures.push(await contest.measureRunning(service, database, conditions))
      }
    }
  } finally {
    await Promise.all(running.map(({ service }) => service.stop()))
    for (const { database } of running) await contest.dropDatabase(database)
  }
  progress.line(`round ${round}  ${running.map(({ variant: { name }, figures }) => `${name}: ${cpuOf(medianOf(figures)).toFixed(1)} µs`).join('  ')}`)
  return new Map(running.map(({ variant, figures }) => [variant, figures]))
}

function cpuOf (figures: Figures | undefined): number {
  return (figures?.cpuUs.service ?? NaN) + (figures?.cpuUs.postgres ?? NaN)
}

/** @param tree where the service's files are */
function variant (name: string, settings: Record<string, string>, tree = join(import.meta.dirname, '../..')): Variant {
  return {
    name,
    contestant: {
      name: name.replace(/\W/g, '-'),
      says: '',
      takes: {
        stores: true,
        http: place => {
          const { env } = inProduction(place, { MIGRATE_ON_START: 'false', MAX_CONNECTIONS: String(place.clients + 100), DRAIN_MIN_MS: '0', DRAIN_QUIET_MS: '0', DRAIN_MAX_MS: '0', ...patience, ...settings })
          return { command: [...node, join(tree, 'server.ts')], env }
        }
      }
    }
  }
}

/** That commit, on the modules of this one. */
function checkOut (commit: string): string {
  const tree = join(contest.directory, 'before')
  execFileSync('git', ['worktree', 'add', '--quiet', '--detach', tree, commit])
  trees.push(tree)
  symlinkSync(join(import.meta.dirname, '../../node_modules'), join(tree, 'node_modules'))
  execFileSync(join(tree, 'node_modules/.bin/prisma'), ['generate'], { cwd: tree, stdio: 'ignore' })
  return tree
}
