import { writeFileSync } from 'node:fs'
import { Progress } from '../../verify/progress.ts'
import { random } from '../../verify/random.ts'
import { giveUp, readArguments } from '../arguments.ts'
import { Contest, type Conditions, type Measured } from './contest.ts'
import { orderService } from './contestants.ts'
import { customers, FilledDatabases } from './fill.ts'
import { measurePages, type PageTimes } from './pages.ts'
import { instancesIn, instancesTable, mebibytes, pagesTable, soakTable, storedTable } from './scale-tables.ts'
import { medians, type Sized } from './sized.ts'
import { soak, type Soak } from './soak.ts'
import { clientsIn, environmentLines, whole } from './table.ts'

const allSizes = '10000,1000000,10000000'

const help = `The order service as its table grows, beside a second instance, and over time.

npm run bench:scale -- [--stored ${allSizes}] [--pages] [--instances] [--soak] [--soak-minutes 10]
                       [--clients 256] [--rounds 3] [--seconds 5] [--warm-up 5] [--seed n] [--json file]

--stored     orders per second, with this many stored before
--pages      list pages at any depth of the largest of these
--instances  two processes on one database, beside one
--soak       the service's memory under 64 clients
--clients    clients of --stored and --instances
--json       a file for every figure

Without any of the four, it runs all. Stored orders have one line, over a year, of ${whole(customers)} customers, one of whom has
one in a hundred; ten million of them take some 10 GB below TMPDIR, which are freed at the end.`

const soakClients = 64

// Each module that starts a process ends it in an exit handler.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
await main()

async function main (): Promise<void> {
  const options = readArguments({
    stored: { type: 'string' },
    pages: { type: 'boolean', default: false },
    instances: { type: 'boolean', default: false },
    soak: { type: 'boolean', default: false },
    'soak-minutes': { type: 'string', default: '10' },
    clients: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '5' },
    'warm-up': { type: 'string', default: '5' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
    help: { type: 'boolean', short: 'h', default: false }
  }, help, ['soak-minutes', 'clients', 'rounds', 'seconds', 'warm-up', 'seed'])
  const all = options.stored === undefined && !options.pages && !options.instances && !options.soak
  const sizes = (options.stored ?? allSizes).split(',').map(sizeOf)
  const clients = Number(options.clients)
  const conditions: Conditions = { clients, products: 'uniform', lines: 1, warmUpMs: Number(options['warm-up']) * 1_000, measureMs: Number(options.seconds) * 1_000 }

  const progress = new Progress(process.stderr)
  const contest = await Contest.create()
  try {
    const environment = await contest.environment()
    console.log(`${environmentLines(environment).join('\n')}\n`)
    const databases = new FilledDatabases(contest, progress)
    const inRounds = async (sizes: readonly number[], name: (size: number) => string, measure: (size: number) => Promise<Measured>): Promise<Sized[]> =>
      await medians(sizes, Number(options.rounds), random(Number(options.seed)), async (size, round) => {
        progress.state(`round ${round}  ${name(size)}`)
        const measured = await measure(size)
        progress.line(`round ${round}  ${name(size).padEnd(18)} ${whole(measured.rate).padStart(7)} orders/s`)
        return measured
      })

    let stored: Sized[] | undefined
    if (all || options.stored !== undefined) {
      stored = await inRounds(sizes, size => `${whole(size)} stored`, async size => await contest.measure(orderService, await databases.holding(size), conditions))
      console.log(storedTable(stored, clients))
    }
    let pages: PageTimes[] | undefined
    if (all || options.pages) {
      progress.line('reading list pages')
      pages = await measurePages(contest, await databases.holding(Math.max(...sizes)))
      console.log(pagesTable(pages))
    }
    await databases.drop()
    let instances: Sized[] | undefined
    if (all || options.instances) {
      instances = await inRounds([1, 2], instancesIn, async instances => {
        const database = await contest.createDatabase(conditions.products)
        try {
          return await contest.measure(orderService, database, { ...conditions, instances })
        } finally {
          await contest.dropDatabase(database)
        }
      })
      console.log(instancesTable(instances, clients))
    }
    let soaked: Soak | undefined
    if (all || options.soak) {
      const minutes = options['soak-minutes']
      progress.line(`${minutes} min under ${clientsIn(soakClients)}`)
      soaked = await soak(contest, { ...conditions, clients: soakClients, warmUpMs: 0, measureMs: Number(minutes) * 60_000 }, (atMs, rssBytes) => {
        progress.state(`${(atMs / 60_000).toFixed(1)} of ${minutes} min  ${mebibytes(rssBytes)}`)
      })
      console.log(soakTable(soaked, soakClients))
    }
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ date: new Date().toISOString(), environment, options, stored, pages, instances, soak: soaked }, null, 2)}\n`)
    console.log('Next: docs/performance.md says what these figures were elsewhere.')
  } finally {
    await contest.close()
  }
}

function sizeOf (text: string): number {
  if (!/^[1-9]\d*$/.test(text)) giveUp(`--stored has '${text}', and takes whole numbers above 0.`, help)
  return Number(text)
}
