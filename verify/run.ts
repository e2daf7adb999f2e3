import { mkdirSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { UserError } from '../user-error.ts'
import { pagesOf, saveAtRest } from './at-rest.ts'
import { usualBalancer, type BalancerName } from './balancer.ts'
import type { ConsumerProcess } from './consumer-process.ts'
import type { GatewayProcess } from './gateway-process.ts'
import { describeEnvironment } from './environment.ts'
import { between, oneOf, type Scenario, type World } from './faults/fault.ts'
import { now } from './history.ts'
import type { Struck } from './judge/evidence.ts'
import { lackedBy } from './lacking.ts'
import { LineFile } from './lines.ts'
import { startLoad, type LoadProcess } from './load-process.ts'
import type { Mix } from './load/mix.ts'
import { lacksOf } from './load/plan.ts'
import { loadTarget } from './load-target.ts'
import { commandOf, targetOptions, type Home } from './home.ts'
import type { Progress } from './progress.ts'
import { random } from './random.ts'
import { judgeAgain } from './judge-again.ts'
import { writeHeader } from './saved.ts'
import { scenarioFor, type ManagerName } from './scenarios.ts'
import type { Run, Target } from './target.ts'
import type { Verdict } from './verdict.ts'
import { surround, type Surroundings } from './world.ts'

export interface RunOptions {
  /** One of `scenarioNames`. */
  readonly scenario: string
  /** The balancer of a scenario with several instances. Default: `usualBalancer`. */
  readonly balancer?: BalancerName
  /** What promotes the standby in a failover. Default: the harness. */
  readonly manager?: ManagerName
  /** Absolute path of a target file: a module, or a description. */
  readonly targetFile: string
  /** Where it runs, for its report. Absent: in the installed package. */
  readonly home?: Home | undefined
  /** Duration of the load, in ms; with `enough`, its maximum. */
  readonly duration: number
  /** The acknowledged orders and faults after which the load ends early. */
  readonly enough?: { readonly orders: number, readonly faults: number } | undefined
  /** Arrivals per second; max: as many as the service takes. */
  readonly rate: number | 'max'
  /** Connections. */
  readonly clients: number
  readonly seed: number
  /** Absolute path of a folder that is empty or does not exist yet. */
  readonly directory: string
  readonly progress: Pick<Progress, 'line' | 'state'>
  /** Settings of each instance that add to its own or replace them. */
  readonly env?: Readonly<Record<string, string>>
  /** How a control breaks the target. The load, which loads the file itself, uses the unbroken target. */
  readonly vary?: (target: Target) => Target
  /** Shares of the load that differ from the usual ones. */
  readonly mix?: Partial<Mix>
  /** How long the stored data may take to come to rest, in ms. Default: that of the target, otherwise 90,000. */
  readonly restLimitMs?: number
  /** Undisturbed load before each fault, in ms. Default: a seeded choice by the scenario. */
  readonly rest?: number
  /** Load after the last fault, in ms. Default: one and a half times as long as the service was down. */
  readonly coda?: number
  /** Counterexamples per invariant. Default 20. */
  readonly tellMax?: number
  /** How long event streams stay open at the end for owed events, in ms. Default 15,000. */
  readonly patienceMs?: number
}

const stateEveryMs = 500
/** Arrivals at once just before a blow. */
const burstSize = 48
/** How long another request follows each answer, in ms: until the blow has landed. Otherwise a quick service would have answered all of them before. */
const burstMs = 30
/** ms of arrivals after the faults. */
const codaMs = 1_000
const codaMaxMs = 10_000

/** UTC, a zone without daylight saving, one with it, and two that are a day apart: each restart is in another zone than the life before. */
const zones = ['Asia/Kathmandu', 'UTC', 'America/St_Johns', 'Pacific/Kiritimati', 'Pacific/Pago_Pago'] as const

/**
 * One run from its start to its verdict: load and faults, then rest, then a read of the stored data, then every order again,
 * then another read. It leaves `evidence.json` with the files that it names, `verdict.json`, `counterexamples.jsonl`,
 * `report.html` and the logs in the directory, and no running process.
 */
export async function run (options: RunOptions): Promise<Verdict> {
  const ends: Array<() => Promise<void>> = []
  try {
    return await prove(options, close => ends.push(close))
  } finally {
    for (const close of ends.reverse()) await close()
  }
}

async function prove (options: RunOptions, onEnd: (close: () => Promise<void>) => void): Promise<Verdict> {
  const { targetFile, home, duration, seed, directory, progress, balancer = usualBalancer, manager = 'harness', env = {}, vary = whole => whole } = options
  const startedAt = new Date().toISOString()
  mkdirSync(directory, { recursive: true })
  const target = vary(withSettings(await loadTarget(targetFile), env))
  const scenario = scenarioFor(options.scenario, { target, balancer, manager }, line => progress.line(line))
  const { restLimitMs = target.limits?.rest ?? scenario.restLimitMs } = options

  const surroundings = await surround({ target, needs: scenario.needs, balancer, directory, seed, zones: zonesFrom(seed), onEnd })
  const { run, instances, consumer, gateway, urls } = surroundings
  await target.prepare?.(run)
  await Promise.all(instances.map(async instance => await instance.start()))
  await surroundings.allReady()
  await target.stock?.(run, urls[0])
  await requireEmpty(target, run)
  const { rate, clients, mix = {}, patienceMs, tellMax, enough } = options
  const environment = {
    ...await describeEnvironment(run.directDatabaseUrl),
    ...home && { controls: await home.lastCaught() },
    rate: String(rate),
    clients: String(clients),
    'service zones': zonesFrom(seed).join(', '),
    ...instances.length > 1 && { balancer },
    ...surroundings.patroni && { manager },
    command: commandOf(home),
    options: [targetOptions(targetFile, env, home), ...Object.entries(mix).map(([kind, share]) => `--mix ${kind}=${share}`), ...enough === undefined ? [] : [`--orders ${enough.orders} --faults ${enough.faults}`]].filter(part => part !== '').join(' ')
  }
  progress.line(`${target.name} is ready`)

  const historyFile = join(directory, 'history.jsonl')
  const load = startLoad({ what: 'load', targetFile, run, urls, rate, clients, duration, seed, mix: { ...scenario.mix, ...mix }, historyFile, untilFinished: true, ...patienceMs !== undefined && { patienceMs } })
  onEnd(async () => { load.kill() })
  await load.begun
  const watched = watch(load, progress, 'load')
  const { faults, outage } = await Promise.race([strike(scenario, target, surroundings, load, options), endedEarly(watched)])
  // Finds an instance that has ended although nothing stopped it.
  await surroundings.allReady()
  load.finish(options.coda ?? Math.max(codaMs, Math.min(restAfter(outage, rate), codaMaxMs)))
  await watched
  await surroundings.allReady()
  await gateway?.set({ calls: 'well' })

  progress.line('reading what is stored, when it has come to rest')
  const { orders, ...first } = await saveAtRest(target, run, join(directory, 'first.jsonl'), restLimitMs)
  progress.line(`${orders} orders are stored; posting every acknowledged and every unknown one again`)
  const settleFile = join(directory, 'settle.jsonl')
  const settling = startLoad({ what: 'settle', targetFile, run, urls, clients, historyFile, settleFile })
  onEnd(async () => { settling.kill() })
  await watch(settling, progress, 'settling')
  progress.line('reading what is stored once more')
  const { orders: _, ...second } = await saveAtRest(target, run, join(directory, 'second.jsonl'), restLimitMs)
  writeHeader(directory, {
    scenario: scenario.name,
    target: target.name,
    seed,
    startedAt,
    duration,
    environment,
    history: basename(historyFile),
    settle: basename(settleFile),
    faults: gateway === undefined ? faults : faults.map(fault => withNotices(fault, gateway)),
    products: run.products,
    first,
    second,
    ...consumer !== undefined && target.consumer && { deliveries: received(consumer, target.consumer, directory) },
    ...gateway !== undefined && { ledger: basename(gateway.ledgerFile) },
    transitions: target.transitions,
    ...target.states && { states: target.states },
    ...target.features && { features: target.features },
    lacks: lacksOf(target, run.products),
    needed: { faultsInFlight: 1, noFailedRequest: scenario.invisible === true, occasions: true },
    skipped: lackedBy(target, second)
  })
  return await judgeAgain({ directory, tellMax, progress })
}

/** The deliveries to the consumer, event by event. */
function received (consumer: ConsumerProcess, { understand }: NonNullable<Target['consumer']>, directory: string): string {
  const file = new LineFile(join(directory, 'received.jsonl'))
  for (const { body } of consumer.received()) {
    for (const delivery of understand(body)) file.append(JSON.stringify(delivery))
  }
  file.flush()
  return basename(file.path)
}

/** Counts the gateway's notifications during a stop as probes, too. */
function withNotices (fault: Struck, gateway: GatewayProcess): Struck {
  const { at, drainMs, probes = 0 } = fault
  return drainMs === null ? fault : { ...fault, probes: probes + gateway.notices(at, at + drainMs) }
}

/** All time zones, beginning with a seeded one. */
function zonesFrom (seed: number): string[] {
  const first = zones.indexOf(oneOf(zones, random(seed)))
  return [...zones.slice(first), ...zones.slice(0, first)]
}

/** The target with these additional settings for its instances. */
export function withSettings (target: Target, env: Readonly<Record<string, string>>): Target {
  return {
    ...target,
    start (run, instance) {
      const command = target.start(run, instance)
      return { ...command, env: { ...command.env, ...env } }
    }
  }
}

/** The stored data must be empty: earlier orders would count as orders that nobody asked for. And unreadable data is noticed here, and not after the load. */
async function requireEmpty (target: Target, run: Run): Promise<void> {
  let count = 0
  for await (const { orders = [] } of pagesOf(target, run)) count += orders.length
  if (count > 0) throw new UserError(`The service ${target.name} has ${count} orders before the first was placed. Nothing was asked. Give each run an empty store.`)
}

/** One fault after another, as long as the load goes on. */
async function strike (
  scenario: Scenario,
  target: Target,
  { instances, database, patroni, consumer, gateway, takeOut, allReady }: Surroundings,
  load: LoadProcess,
  { duration, seed, progress, rest, enough, rate }: RunOptions
): Promise<{ faults: Struck[], outage: number }> {
  const faults: Struck[] = []
  const draw = random(seed)
  const world: World = {
    target,
    instances,
    database,
    patroni,
    consumer,
    gateway,
    takeOut,
    start: async instance => await instance.start(),
    allReady,
    async burst () {
      await load.burst(burstSize, burstMs)
      await delay(between(draw, [3, 10]))
    },
    random: draw,
    progress: line => progress.line(line),
    record (fault) {
      faults.push(fault)
      progress.line(`${faults.length}: ${describe(fault)}`)
    }
  }
  const end = now() + duration
  const isOver = (): boolean => now() >= end || (enough !== undefined && load.counts.acknowledged >= enough.orders && faults.length >= enough.faults)
  let [outage, wellAt] = [0, 0]
  for (;;) {
    await delay(Math.max(wellAt + restAfter(outage, rate) - now(), rest ?? between(draw, scenario.rest)))
    if (isOver()) return { faults, outage }
    const [struckAt, known] = [now(), faults.length]
    await scenario.strike(world)
    // The service may be ready long before everything is repaired, for example before a killed node is a standby again.
    wellAt = Math.max(struckAt, ...faults.slice(known).map(({ recoveredAt = now() }) => recoveredAt))
    if (scenario.invisible !== true) outage = wellAt - struckAt
    // There are no more arrivals for another rest.
    if (isOver()) return { faults, outage }
  }
}

/**
 * Otherwise a service that starts slowly would be down most of the time, and the run would hardly show how it works. At the rate
 * max clients do not send requests while it is down, so that less is enough.
 */
function restAfter (outage: number, rate: RunOptions['rate']): number {
  return rate === 'max' ? outage / 2 : 1.5 * outage
}

/** Never resolves. Rejects if a load ends before it is told to. */
async function endedEarly (watched: Promise<void>): Promise<never> {
  await watched
  throw new UserError('The load ended before the faults were over, and nothing was judged. Run it again.')
}

function describe ({ kind, at, instance, exitCode, drainMs, recoveredAt }: Struck): string {
  return [
    instance === undefined ? kind : `${kind} of instance ${instance}`,
    ...drainMs === null ? [] : [`exit ${exitCode ?? 'by SIGKILL, as it hung,'} after ${Math.round(drainMs)} ms`],
    ...recoveredAt === undefined ? [] : [`well again after ${((recoveredAt - at) / 1_000).toFixed(1)} s`]
  ].join(', ')
}

/** Shows the progress of the load until it is done. */
async function watch (load: LoadProcess, progress: RunOptions['progress'], what: string): Promise<void> {
  const startedAt = now()
  const state = setInterval(() => {
    const { invoked, ok, fail, info, inFlight, acknowledged } = load.counts
    const rate = Math.round(invoked / ((now() - startedAt) / 1_000))
    progress.state(`${what}: ${invoked} asked (${rate}/s), ${acknowledged > 0 ? `${acknowledged} orders acknowledged, ` : ''}${ok} ok, ${fail} fail, ${info} unknown, ${inFlight} in flight`)
  }, stateEveryMs)
  try {
    await load.done
  } finally {
    clearInterval(state)
  }
}
