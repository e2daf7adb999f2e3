import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { forPeople, UserError } from '../../user-error.ts'
import { now, type Time } from '../../verify/history.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import orderService from '../order-service.ts'
import { contestants } from './contestants.ts'
import { Lane } from './lane.ts'
import { leftBehind } from './left-behind.ts'
import type { Settings, Told } from './load.ts'
import { painter, plain, Screen, table } from './screen.ts'

// Three services side by side, each on a database of its own. The same orders arrive at the same moments, and all get the same
// kill -TERM. The figures at the end are counted.

const usage = `Usage: npm run demo -- [--seconds N] [--rate N] [--seed N] [--out DIR]

  --seconds N  of load, 1 to 600 (default: 50)
  --rate N     orders a second to each service, 1 to 1000 (default: 80)
  --seed N     of the orders and their arrivals (default: another each time)
  --out DIR    a folder that is not there yet (default: below .verify/)`

const slices = 60
const stopEverySeconds = 12

// Each module that starts a process ends it in an exit handler.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => giveUp(new UserError(`${signal}: the demo was ended, and nothing was counted.`)))
}
process.on('uncaughtException', giveUp)

await demo(readArguments())

async function demo ({ seconds, rate, seed, directory }: ReturnType<typeof readArguments>): Promise<void> {
  const { postgres } = orderService
  if (postgres === undefined) throw new UserError('The order service names no Postgres to start. Nothing was started.')
  mkdirSync(directory, { recursive: true })
  console.log(`Three services on Postgres, the same ${rate} orders a second, the same kill -TERM. Starting …`)
  const cluster = await Cluster.create({ postgres, log: join(directory, 'postgres.log') })
  const lanes: Lane[] = []
  try {
    for (const contestant of contestants) {
      const { name } = contestant.target
      await cluster.primary.query(`CREATE DATABASE "${name}"`)
      lanes.push(await Lane.create(contestant, { directory, databaseUrl: cluster.primary.url(name), slices }))
    }
    await Promise.all(lanes.map(async lane => await lane.start()))

    const stops: number[] = []
    const screen = new Screen(process.stdout, { lanes, stops, usual: rate * seconds / slices })
    screen.begin()
    const duration = seconds * 1_000
    const startedAt = now()
    const sliceAt = (time: Time): number => Math.floor((time - startedAt) / duration * slices)
    const load = startLoad({ lanes, rate, duration, seed }, ({ lane, line }) => lanes[lane]?.see(line, sliceAt(line.at)))
    const times = Math.max(1, Math.round(seconds / stopEverySeconds))
    for (let i = 0; i < times; i++) {
      await delay(Math.max(0, startedAt + (i + 0.5) / times * duration - now()))
      await allBusy(lanes)
      stops.push(sliceAt(now()))
      screen.line('kill -TERM')
      await Promise.all(lanes.map(async lane => {
        await lane.restart()
        screen.line(`${lane.name}: ${lane.lastExit}, and serving again`)
      }))
    }
    await load
    screen.end()

    const left = await leftBehind(lanes, cluster.primary)
    writeFileSync(join(directory, 'demo.json'), JSON.stringify({ seconds, rate, seed, stops: times, left }, undefined, 2))
    const report = join(directory, 'report.txt')
    writeFileSync(report, `${screen.text()}\n\n${table(left, plain)}\n`)
    console.log(`
${table(left, painter(process.stdout))}

  The report:                    ${relative('', report)} (beside it every request)
  The same orders again:         npm run demo -- --seed ${seed}
  The proof, with its report:    npm run verify
  Three behind a balancer:       npm run verify -- --scenario rolling`)
  } finally {
    for (const { instance } of lanes) await instance.close()
    await cluster.close()
  }
}

/** Resolves when the last request is over. The load ends when this process ends. */
async function startLoad ({ lanes, ...settings }: Settings, see: (told: Told) => void): Promise<void> {
  const argument: Settings = { ...settings, lanes: lanes.map(({ url, historyFile }) => ({ url, historyFile })) }
  const child = fork(join(import.meta.dirname, 'load.ts'), [JSON.stringify(argument)], { execArgv: [] })
  child.on('message', see)
  const [code, signal] = await once(child, 'close') as [number | null, NodeJS.Signals | null]
  if (code !== 0) throw new UserError(`The load ended with ${signal ?? code} before it was done, so nothing was counted. What it printed says why.`)
}

/** Waits until all services are busy, because a stop that hits no request shows nothing. It gives up after a while. */
async function allBusy (lanes: readonly Lane[]): Promise<void> {
  const until = now() + 2_000
  while (now() < until && lanes.some(({ inFlight }) => inFlight === 0)) await delay(1)
}

function readArguments () {
  try {
    const { values } = parseArgs({ options: { seconds: { type: 'string' }, rate: { type: 'string' }, seed: { type: 'string' }, out: { type: 'string' } } })
    const whole = (name: 'seconds' | 'rate' | 'seed', usual: number, min: number, max: number): number => {
      const value = Number(values[name] ?? usual)
      if (Number.isInteger(value) && value >= min && value <= max) return value
      throw new UserError(`--${name} is "${values[name]}"; it takes a whole number from ${min} to ${max}.`)
    }
    return {
      seconds: whole('seconds', 50, 1, 600),
      rate: whole('rate', 80, 1, 1_000),
      seed: whole('seed', Math.floor(Math.random() * 2 ** 32), 0, 2 ** 32 - 1),
      directory: resolve(values.out ?? join('.verify', `${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}-demo`))
    }
  } catch (error) {
    console.error('%s Nothing was started.\n\n%s', forPeople(error), usage)
    process.exit(2)
  }
}

/** Prints below the line of progress, which has no end on a terminal. */
function giveUp (error: unknown): never {
  if (process.stdout.isTTY) console.log()
  console.error(forPeople(error))
  process.exit(1)
}
