import { join } from 'node:path'
import t from 'tap'
import { prove } from './prove.ts'

const args = ['--target', join(import.meta.dirname, '../examples/express-pg/verify.yaml'), '--rate', '120']

t.test('a service on Express and pg, described in YAML, holds every promise; missing features are named and not counted against it', async t => {
  const { code, verdict, printed } = await prove(t, [...args, '--duration', '12'])
  t.equal(code, 0, printed)
  t.match(verdict, { verdict: 'held', target: 'express-pg', lost: 0, failedRequest: 0 })
  for (const what of ['stream: there are no event streams', 'outbox: events are not told', 'ship: an order cannot be shipped']) t.ok(verdict.skipped?.includes(what), what)
  t.notOk(verdict.skipped?.some(what => /^(read|list|pay|cancel|stock|versions)/.test(what)))
  t.match(printed, /run it again +npx last-orders-verify --target verify\/examples\/express-pg\/verify\.yaml --scenario term /)
  t.match(printed, /skipped +stream: /)
})

t.test('the same service loses orders if it answers before it commits and exits at SIGTERM', async t => {
  const { code, verdict, printed } = await prove(t, [...args, '--env', 'BROKEN=early', '--duration', '4'])
  t.equal(code, 1, printed)
  t.match(verdict, { verdict: 'broken', target: 'express-pg' })
  t.ok(verdict.lost > 0)
  t.match(printed, /run it again .* --env BROKEN=early --scenario term /)
})
