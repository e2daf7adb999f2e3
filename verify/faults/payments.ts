import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import type { GatewayState } from '../gateway/settings.ts'
import databaseCrash from './database-crash.ts'
import { between, inTurn, oneOf, strongest, type Scenario, type World } from './fault.ts'
import kill from './kill.ts'
import term from './term.ts'

type Blow = (world: World) => Promise<void>

/** ms that the gateway is away, and ms from then until the service is struck. */
const awayMs = [500, 4_000] as const
const apartMs = [0, 400] as const

/** How the gateway fails: the states of its line, or `killed`: it ends during calls and restarts on its ledger. */
type Away = Exclude<GatewayState['line'], 'up'> | 'killed'
const ways: readonly Away[] = ['refusing', 'cutting', 'hanging', 'killed']

const next = inTurn<Blow>([
  ...[term, kill, databaseCrash].map(({ strike }): Blow => strike),
  ...ways.map((how): Blow => async world => await takeAway(world, how)),
  ...[term, kill, databaseCrash].map(({ strike }): Blow => async world => {
    await takeAway(world, oneOf(ways, world.random), async () => {
      await delay(between(world.random, apartMs))
      await strike(world)
    })
  })
])

/**
 * The service and its gateway fail in turns and together. Meanwhile each call of the gateway may have a fault of its own: its
 * answer is lost after the charge, late, or a 500; the charge is declined or pending. After some seconds the gateway forgets
 * an id, and charges it again unless the service asks about it first.
 */
const payments: Scenario = {
  name: 'payments',
  needs: { ...strongest([term, kill, databaseCrash]), gateway: true },
  rest: [500, 2_000],
  mix: { transition: 24, 'twin-pay': 5, fulfil: 14, refund: 6 },
  // Two leases, and the longest backoff of a settler that has often asked in vain.
  restLimitMs: 180_000,
  async strike (world) {
    const blow = next(world)
    await blow({ ...world, record: fault => world.record({ ...fault, kind: `payments:${fault.kind}` }) })
  }
}

export default payments

async function takeAway (world: World, how: Away, meanwhile?: () => Promise<void>): Promise<void> {
  const { gateway, random, burst, record, allReady } = world
  if (gateway === undefined) throw new Error('The scenario has no gateway to strike; its `needs` must name one.')
  await burst()
  const at = now()
  const ms = between(random, awayMs)
  const isAway = how === 'killed' ? gateway.restart(ms) : gateway.set({ line: how }).then(async () => await delay(ms))
  await Promise.all([isAway, meanwhile?.()])
  await gateway.set({ line: 'up' })
  record({ kind: `gateway-${how}`, at, exitCode: null, drainMs: null, recoveredAt: await allReady() })
}
