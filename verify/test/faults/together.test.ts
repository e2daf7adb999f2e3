import t from 'tap'
import type { Scenario, World } from '../../faults/fault.ts'
import { together } from '../../faults/together.ts'
import { random } from '../../random.ts'
import type { ServiceInstance } from '../../service/instance.ts'

const instance = {} as ServiceInstance

t.test('two faults at once overlap, whichever began, and the round ends with the later one', async t => {
  const said: string[] = []
  const [oneBegan, otherBegan] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const pair = together(
    scenario('one', 'service', async () => {
      oneBegan.resolve()
      await otherBegan.promise
      said.push('one')
    }),
    scenario('other', 'database', async () => {
      otherBegan.resolve()
      await oneBegan.promise
      said.push('other')
    }))
  t.equal(pair.name, 'one+other')
  await pair.strike(world())
  t.strictSame(said.sort(), ['one', 'other'])
})

t.test('the seed decides which of two faults begins', async t => {
  const order = async (seed: number): Promise<string> => {
    const said: string[] = []
    const pair = together(scenario('a', 'service', async () => { said.push('a') }), scenario('b', 'database', async () => { said.push('b') }))
    const one = world({ random: random(seed) })
    for (let times = 0; times < 8; times++) await pair.strike(one)
    return said.join('')
  }
  const first = await order(1)
  t.match(first, /ab.*ba|ba.*ab/)
  t.equal(await order(1), first)
})

t.test('an instance that cannot start because of the other fault is started again until that fault is mended', async t => {
  const mended = Promise.withResolvers<void>()
  let [starts, isUp] = [0, false]
  const pair = together(
    scenario('stop', 'service', async ({ start }) => await start(instance)),
    scenario('outage', 'database', async () => {
      await mended.promise
      isUp = true
    }))
  await pair.strike(world({
    start: async () => {
      if (++starts === 2) mended.resolve()
      if (!isUp) throw new Error('no database')
    }
  }))
  t.ok(starts > 2)
})

t.test('once the other fault is mended, a failed start is an error', async t => {
  const pair = together(
    scenario('stop', 'service', async ({ start }) => await start(instance)),
    scenario('outage', 'database', async () => {}))
  await t.rejects(pair.strike(world({ start: async () => { throw new Error('no such table') } })), /no such table/)
})

t.test('a pair of faults promises only what both promise, and needs what either needs', async t => {
  const { invisible, needs } = together(
    { ...scenario('rolling', 'service', async () => {}), needs: { instances: 3 }, invisible: true },
    { ...scenario('crash', 'database', async () => {}), needs: { database: 'direct' } })
  t.equal(invisible, undefined)
  t.strictSame(needs, { instances: 3, database: 'direct' })
})

function scenario (name: string, strikes: 'service' | 'database', strike: Scenario['strike']): Scenario {
  return { name, needs: {}, strikes, rest: [0, 0], strike }
}

function world (own: Partial<World> = {}): World {
  return { random: random(1), ...own } as World
}
