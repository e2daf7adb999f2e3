import t from 'tap'
import { all } from '../../faults/all.ts'
import { inTurn, type Scenario, type World } from '../../faults/fault.ts'
import { random } from '../../random.ts'

t.test('the scenario all needs what its most demanding fault needs', async t => {
  t.strictSame(all([scenario('a', {}), scenario('b', {})]).needs, { instances: 1 })
  t.strictSame(all([scenario('a', { database: 'direct' }), scenario('b', { database: 'replicated' }), scenario('c', { database: 'proxied' }), scenario('d', { instances: 3 })]).needs,
    { instances: 3, database: 'replicated' })
})

t.test('chosen in turn, no item comes twice before each was chosen, in an order that the seed decides', async t => {
  const order = (seed: number): string => {
    const world = { random: random(seed) } as World
    const next = inTurn(['a', 'b', 'c', 'd'])
    return Array.from({ length: 8 }, () => next(world)).join('')
  }
  const first = order(1)
  for (const round of [first.slice(0, 4), first.slice(4)]) t.equal([...round].sort().join(''), 'abcd')
  t.equal(order(1), first)
  t.not(order(2), first)
})

t.test('every kind gets its turn, in an order that the seed decides', async t => {
  const struck = async (seed: number): Promise<string> => {
    const names: string[] = []
    const world = { random: random(seed), progress: (name: string) => { names.push(name) } } as unknown as World
    const together = all(['a', 'b', 'c'].map(name => scenario(name, {})))
    for (let times = 0; times < 30; times++) await together.strike(world)
    return names.join('')
  }
  const first = await struck(1)
  t.strictSame([...new Set(first)].sort(), ['a', 'b', 'c'])
  t.equal(await struck(1), first)
  t.not(await struck(2), first)
})

function scenario (name: string, needs: Scenario['needs']): Scenario {
  return { name, needs, rest: [0, 0], strike: async ({ progress }) => progress(name) }
}
