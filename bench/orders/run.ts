import { writeFileSync } from 'node:fs'
import { Progress } from '../../verify/progress.ts'
import { random } from '../../verify/random.ts'
import { giveUp, readArguments } from '../arguments.ts'
import { shuffled } from '../shuffled.ts'
import { judge } from './bounds.ts'
import { chart } from './chart.ts'
import { Contest, warmUpClients } from './contest.ts'
import { contestants, Missing, type Contestant } from './contestants.ts'
import { productsKinds, standings, sum, type Measurement, type Products } from './figures.ts'
import { clientsIn, environmentLines, productsIn, standingsTable, verdictLines, whole } from './table.ts'

const everything = { clients: '1,8,64,256,1024', products: productsKinds.join() } as const

const help = `Measures durable orders per second: the order service against its peers, on one Postgres, in one run.

npm run bench -- [--clients 64,256] [--products uniform,hot] [--contestants …] [--rounds 3] [--seconds 5] [--warm-up 3]
                 [--lines 1] [--pool n] [--seed n] [--all] [--json file] [--chart file.svg] [--gate]

--clients      numbers of clients, each with a connection and one order at a time
--products     uniform: 1,000, by chance; hot: one for all
--contestants  ${contestants.map(({ name }) => name).join(',')}
--rounds       each round measures every contestant once, in a shuffled sequence; it prints medians
--seconds      measured time, after --warm-up and a second more for each 100 clients;
               fewer than 64 clients after as long a warm-up by 64
--lines        products in an order; above 1 without pgbench, whose scripts support one
--pool         connections of the peers' pools; default: as many as docs/performance.md says
--seed         seed of the sequence in a round
--all          --clients ${everything.clients} --products ${everything.products}
--json         a file for every figure
--chart        a file for the picture
--gate         exits with 1 if a bound is missed, or a measurement failed

${contestants.map(({ name, says }) => `${name.padEnd(20)}${says}`).join('\n')}`

/** Time in addition to measuring and warming up: a database, a process, a checkpoint. In s, a rule of thumb. */
const overheadS = 2.5
/** Extra warm-up for pgbench, in s: each of its clients is a process of Postgres, which fills caches of its own. */
const warmUpPerClientS = 0.01

interface Plan {
  readonly settings: ReadonlyArray<{ readonly clients: number, readonly products: Products }>
  readonly rounds: number
  readonly measureS: number
  readonly warmUpS: number
  /** Products in an order. */
  readonly lines: number
  readonly pool: number | undefined
  readonly seed: number
}

interface Failure extends Pick<Measurement, 'contestant' | 'clients' | 'products' | 'round'> {
  readonly why: string
}

// Each module that starts a process ends it in an exit handler.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
await main()

async function main (): Promise<void> {
  const options = readArguments({
    clients: { type: 'string', default: '64,256' },
    products: { type: 'string', default: 'uniform,hot' },
    contestants: { type: 'string', default: contestants.map(({ name }) => name).join() },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    'warm-up': { type: 'string', default: '3' },
    lines: { type: 'string', default: '1' },
    pool: { type: 'string' },
    seed: { type: 'string', default: '1' },
    all: { type: 'boolean', default: false },
    json: { type: 'string' },
    chart: { type: 'string' },
    gate: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false }
  }, help, ['rounds', 'seconds', 'warm-up', 'lines', 'seed'])
  const { clients: clientsList, products: productsList } = options.all ? everything : options
  const plan: Plan = {
    settings: clientsList.split(',').map(text => wholeOf('clients', text)).flatMap(clients =>
      pick(productsKinds, productsList, 'kind of products', String).map(products => ({ clients, products }))),
    rounds: Number(options.rounds),
    measureS: Number(options.seconds),
    warmUpS: Number(options['warm-up']),
    lines: Number(options.lines),
    pool: options.pool === undefined ? undefined : wholeOf('pool', options.pool),
    seed: Number(options.seed)
  }
  const asked = pick(contestants, options.contestants, 'contestant', ({ name }) => name)

  const progress = new Progress(process.stderr)
  const contest = await Contest.create()
  try {
    const ready = await prepare(asked, contest.directory, plan.lines, progress)
    const environment = await contest.environment()
    console.log(`Orders a second, each answered after its commit. ${plan.rounds} rounds of ${plan.measureS} s, seed ${plan.seed}.\n\n${environmentLines(environment).join('\n')}\n`)
    const { measurements, failures } = await measureAll(contest, ready, plan, progress)

    const tables = plan.settings
      .map(setting => ({ ...setting, standings: standings(measurements, setting.clients, setting.products) }))
      .filter(table => table.standings.length > 0)
    const verdicts = judge(measurements)
    for (const table of tables) console.log(`${standingsTable(table.clients, table.products, table.standings)}\n`)
    if (verdicts.length > 0) console.log(`last-orders in multiples of each peer, the median of the rounds\n\n${verdictLines(verdicts).join('\n')}\n`)
    for (const { contestant, clients, products, round, why } of failures) console.log(`FAILED  ${contestant}, ${clientsIn(clients)}, ${productsIn(products)}, round ${round}: ${why}`)

    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ date: new Date().toISOString(), environment, options, tables, verdicts, measurements, failures }, null, 2)}\n`)
    if (options.chart !== undefined) writeFileSync(options.chart, chart(tables, environment))
    console.log(`Next: npm run bench${options.all ? ':scale' : ' -- --all --json bench.json --chart bench.svg'}`)
    if (options.gate && (failures.length > 0 || verdicts.some(({ held }) => !held))) process.exitCode = 1
  } finally {
    await contest.close()
  }
}

/** A failed measurement is printed and kept apart. */
async function measureAll (
  contest: Contest,
  ready: readonly Contestant[],
  { settings, rounds, measureS, warmUpS, lines, pool, seed }: Plan,
  progress: Progress
): Promise<{ measurements: Measurement[], failures: Failure[] }> {
  const warmUpOf = (clients: number): number => warmUpS + clients * warmUpPerClientS
  const total = rounds * settings.length * ready.length
  const expectedS = rounds * ready.length * sum(settings.map(({ clients }) =>
    (clients < warmUpClients ? warmUpS : 0) + warmUpOf(clients) + measureS + overheadS))
  progress.line(`${total} measurements, about ${Math.ceil(expectedS / 60)} min`)

  const measurements: Measurement[] = []
  const failures: Failure[] = []
  const next = random(seed)
  for (let round = 1; round <= rounds; round++) {
    for (const { clients, products } of settings) {
      for (const contestant of shuffled(ready, next)) {
        const turn = { contestant: contestant.name, clients, products, round }
        const what = `${measurements.length + failures.length + 1} of ${total}  round ${round}  ${clientsIn(clients)}, ${productsIn(products)}  ${contestant.name.padEnd(19)}`
        progress.state(what)
        const database = await contest.createDatabase(products)
        try {
          const measured = await contest.measure(contestant, database, {
            clients,
            products,
            lines,
            pool,
            warmUpMs: warmUpOf(clients) * 1_000,
            measureMs: measureS * 1_000
          })
          measurements.push({ ...turn, ...measured })
          progress.line(`${what} ${whole(measured.rate).padStart(7)} orders/s`)
        } catch (error) {
          const why = error instanceof Error ? error.message : String(error)
          failures.push({ ...turn, why })
          progress.line(`${what} FAILED, and is not used: ${why}`)
        } finally {
          await contest.dropDatabase(database)
        }
      }
    }
  }
  return { measurements, failures }
}

/** The contestants that can run; for the others the reason is printed. */
async function prepare (asked: readonly Contestant[], directory: string, lines: number, progress: Progress): Promise<Contestant[]> {
  const ready: Contestant[] = []
  for (const contestant of asked) {
    try {
      if (lines !== 1 && 'pgbench' in contestant.takes) throw new Missing('its script places orders of one line only')
      await contestant.prepare?.(directory)
      ready.push(contestant)
    } catch (error) {
      if (!(error instanceof Missing)) throw error
      progress.line(`without ${contestant.name}: ${error.message}`)
    }
  }
  return ready
}

/** Postgres has no connections for more. */
function wholeOf (name: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text) || Number(text) > 1_024) giveUp(`--${name} has '${text}', and takes whole numbers from 1 to 1024.`, help)
  return Number(text)
}

function pick<T> (from: readonly T[], names: string, what: string, nameOf: (one: T) => string): T[] {
  return names.split(',').map(name => from.find(one => nameOf(one) === name) ?? giveUp(`There is no ${what} '${name}'.`, help))
}
