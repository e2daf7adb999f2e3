import { join } from 'node:path'
import t from 'tap'
import { wholeSnapshot } from '../at-rest.ts'
import { freePort } from '../free-port.ts'
import { products } from '../products.ts'
import { ServiceInstance } from '../service/instance.ts'
import type { Run } from '../target.ts'
import plainNode from '../examples/plain-node/target.mts'
import { prove } from './prove.ts'

const example = (file: string): string => join(import.meta.dirname, '../examples/plain-node', file)
// Enough orders that a stop certainly hits some.
const load = ['--duration', '8', '--rate', '500']

t.test('the example of another service holds every promise when it is killed', async t => {
  const { code, verdict, printed } = await prove(t, ['--target', example('target.mts'), '--scenario', 'kill', ...load])
  t.equal(code, 0, printed)
  t.match(verdict, { verdict: 'held', lost: 0 })
})

t.test('half a line of a killed process does not spoil the next line', async t => {
  const run: Run = { directory: t.testdir({ 'orders.jsonl': '{"customer":"alice","ke' }), databaseUrl: '', directDatabaseUrl: '', products }
  const instance = new ServiceInstance({ target: plainNode, run, instance: { index: 0, port: await freePort(), opsPort: 0, balanced: false } })
  t.teardown(async () => await instance.close())
  await instance.start()
  const asked = plainNode.request({ kind: 'place', customer: 'alice', key: '1', order: { currency: 'EUR', items: [{ sku: 'hot', quantity: 2 }] } })
  const { method = '', path = '', headers = {}, body = '' } = asked ?? {}
  t.equal((await fetch(instance.url + path, { method, headers, body })).status, 201)
  t.match(await wholeSnapshot(plainNode, run), { orders: [{ customer: 'alice', key: '1', total: 2 * 999 }] })
})

t.test('the naive example has lost acknowledged orders', async t => {
  const { code, verdict, printed } = await prove(t, ['--target', example('naive.mts'), ...load])
  t.equal(code, 1, printed)
  t.match(verdict, { verdict: 'broken', target: 'naive', phantom: 0, wrongContent: 0 })
  t.ok(verdict.lost > 0)
  t.ok(verdict.counterexamples.some(({ invariant }) => invariant === 'lost'))
})
