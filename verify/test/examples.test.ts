import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import type { Verdict } from '../verdict.ts'

const example = join(import.meta.dirname, '../examples/express-pg/verify.yaml')

t.test('a service on Express and pg, described in YAML, holds every promise; missing features are named and not counted against it', async t => {
  const { code, verdict, printed } = await prove(t)
  t.equal(code, 0, printed)
  t.match(verdict, { verdict: 'held', target: 'express-pg', lost: 0, failedRequest: 0 })
  for (const what of ['stream: there are no event streams', 'outbox: events are not told', 'ship: an order cannot be shipped']) t.ok(verdict.skipped?.includes(what), what)
  t.notOk(verdict.skipped?.some(what => /^(read|list|pay|cancel|stock|versions)/.test(what)))
  t.match(printed, /once more +npx last-orders-verify --target verify\/examples\/express-pg\/verify\.yaml --scenario term /)
  t.match(printed, /skipped +stream: /)
})

t.test('the same service loses orders if it answers before it commits and exits at SIGTERM', async t => {
  const { code, verdict, printed } = await prove(t, '--env', 'BROKEN=early', '--duration', '4')
  t.equal(code, 1, printed)
  t.match(verdict, { verdict: 'broken', target: 'express-pg' })
  t.ok(verdict.lost > 0)
  t.match(printed, /once more .* --env BROKEN=early --scenario term /)
})

async function prove (t: Test, ...args: string[]): Promise<{ code: number | null, verdict: Verdict, printed: string }> {
  const out = join(t.testdir(), 'out')
  const child = spawn(process.execPath, [join(import.meta.dirname, '../bin.ts'), '--target', example, '--duration', '12', '--rate', '120', '--seed', '1', '--out', out, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [printed, [code]] = await Promise.all([text(child.stdout), once(child, 'close') as Promise<[number | null]>])
  return { code, verdict: JSON.parse(readFileSync(join(out, 'verdict.json'), 'utf8')) as Verdict, printed }
}
