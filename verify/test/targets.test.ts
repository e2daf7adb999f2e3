import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { wholeSnapshot } from '../at-rest.ts'
import { freePort } from '../free-port.ts'
import { products } from '../products.ts'
import { ServiceInstance } from '../service/instance.ts'
import type { Run } from '../target.ts'
import plainNode from '../targets/plain-node.ts'
import type { Verdict } from '../verdict.ts'

t.test('the example of another service holds every promise when it is told to stop', async t => {
  const { code, verdict, printed } = await prove(t, 'plain-node', 'term')
  t.equal(code, 0, printed)
  t.match(verdict, { verdict: 'held', target: 'plain-node', lost: 0 })
  for (const { exitCode } of verdict.faults) t.equal(exitCode, 0)
})

t.test('the example of another service holds every promise when it is killed', async t => {
  const { code, verdict, printed } = await prove(t, 'plain-node', 'kill')
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
  const { code, verdict, printed } = await prove(t, 'naive', 'term')
  t.equal(code, 1, printed)
  t.match(verdict, { verdict: 'broken', target: 'naive', phantom: 0, wrongContent: 0 })
  t.ok(verdict.lost > 0)
  t.ok(verdict.counterexamples.some(({ invariant }) => invariant === 'lost'))
})

async function prove (t: Test, target: string, scenario: string): Promise<{ code: number | null, verdict: Verdict, printed: string }> {
  const out = join(t.testdir(), 'out')
  // Enough orders that a stop certainly hits some.
  const child = spawn(process.execPath, [
    join(import.meta.dirname, '../bin.ts'), '--target', join(import.meta.dirname, `../targets/${target}.ts`),
    '--scenario', scenario, '--duration', '8', '--rate', '500', '--seed', '1', '--out', out
  ], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[number | null]>])
  return { code, verdict: JSON.parse(readFileSync(join(out, 'verdict.json'), 'utf8')) as Verdict, printed }
}
