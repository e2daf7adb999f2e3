import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startConsumer } from '../consumer-process.ts'

t.test('a delivery is on disk before it is acknowledged', async t => {
  const ledger = join(t.testdir(), 'deliveries.jsonl')
  const consumer = await startConsumer(ledger)
  t.teardown(consumer.close)
  t.equal((await deliver(consumer.url, 'one')).status, 204)
  t.match(readFileSync(ledger, 'utf8'), /"body":"one"\}\n$/)
  await deliver(consumer.url, 'two')
  t.strictSame(Array.from(consumer.received(), ({ body }) => body), ['one', 'two'])
})

t.test('while the consumer is down, every delivery is cut and none is recorded', async t => {
  const consumer = await startConsumer(join(t.testdir(), 'deliveries.jsonl'))
  t.teardown(consumer.close)
  await consumer.set('down')
  await t.rejects(deliver(consumer.url, 'one'))
  t.strictSame([...consumer.received()], [])
  await consumer.set('up')
  t.equal((await deliver(consumer.url, 'two')).status, 204)
  t.strictSame(Array.from(consumer.received(), ({ body }) => body), ['two'])
})

async function deliver (url: string, body: string): Promise<Response> {
  return await fetch(url, { method: 'POST', body })
}
