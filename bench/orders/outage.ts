import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { OutboxRelay } from '../../orders/relay.ts'
import { withClient } from '../../postgres/with-client.ts'
import { Progress } from '../../verify/progress.ts'
import { readArguments } from '../arguments.ts'
import { connectStore, fill, numberOf, openBacklogs } from './backlog.ts'
import { whole } from './table.ts'
import type { OrderMessage } from '../../orders/publisher.ts'

const help = `Measures an outage of the broker, and how soon everything is published afterwards.

npm run bench:outage -- [--orders 3600000] [--paid 10] [--rate 1000] [--broker-ms 2] [--down 20]

--orders     orders placed while the broker is down: an hour at 1,000 a second. They are stored by SQL, which takes minutes
--paid       percent of them that were paid, too
--rate       orders per second that are placed while those are published
--broker-ms  how long the broker takes for a call
--down       seconds for which the relay runs before the broker is back

Exits with 1 if an event is dead, missing, or published before an earlier one of its order.`

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const options = readArguments({
  orders: { type: 'string', default: '3600000' },
  paid: { type: 'string', default: '10' },
  rate: { type: 'string', default: '1000' },
  'broker-ms': { type: 'string', default: '2' },
  down: { type: 'string', default: '20' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['orders', 'paid', 'rate', 'broker-ms', 'down'])
const orders = Number(options.orders)
const paid = Math.round(orders * Number(options.paid) / 100)

/** What the publisher got: the last version of each order of the outage, and the orders placed since. */
class Broker {
  readonly versions = new Uint8Array(orders + 1)
  readonly since = new Set<string>()
  isDown = true
  calls = 0
  published = 0
  duplicates = 0
  outOfOrder = 0

  async publish (messages: OrderMessage[]): Promise<void> {
    this.calls++
    await delay(Number(options['broker-ms']))
    if (this.isDown) throw new Error('connect ECONNREFUSED broker:9092')
    for (const { orderId, version } of messages) {
      const n = orderId.startsWith('01900000-') ? numberOf(orderId) : undefined
      if (n === undefined) {
        if (this.since.has(orderId)) this.duplicates++
        this.since.add(orderId)
      } else if (version === (this.versions[n] ?? 0) + 1) {
        this.versions[n] = version
        this.published++
      } else if (version <= (this.versions[n] ?? 0)) {
        this.duplicates++
      } else {
        this.outOfOrder++
      }
    }
  }
}

const directory = mkdtempSync(join(tmpdir(), 'last-orders-bench-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const progress = new Progress(process.stderr)
const { cluster, create } = await openBacklogs(join(directory, 'postgres.log'))
const url = await create('outage')
const { store, close } = connectStore(url)
try {
  await fill(url, { orders, first: { attempts: '0' }, followers: 0 }, progress, 'an hour of orders')
  await withClient(url, async client => await client.query(`INSERT INTO outbox (order_id, version, type) SELECT order_id, 2, 'paid' FROM outbox ORDER BY order_id LIMIT ${paid}`))

  const broker = new Broker()
  let lines = 0
  const log = { warn () { lines++ }, error () { lines++ } }
  const relay = new OutboxRelay({ store, publisher: broker, log })
  const relaying = relay.run()
  const stopPlacing = new AbortController()
  const placing = place(stopPlacing.signal)

  await delay(Number(options.down) * 1_000)
  const { attempts } = await count()
  console.log(`The broker is down, ${options.down} s: ${whole(broker.calls)} calls, ${lines} lines of log, ${attempts} events with a counted attempt\n`)

  broker.isDown = false
  const began = performance.now()
  const total = orders + paid
  for (let part = 1; part <= 10; part++) {
    const from = { at: performance.now(), published: broker.published }
    while (broker.published < total * part / 10) {
      await delay(100)
      progress.state(`${whole(broker.published)} of ${whole(total)} events`)
    }
    const seconds = (performance.now() - from.at) / 1_000
    console.log(`  ${String(part * 10).padStart(3)} %  ${whole((broker.published - from.published) / seconds).padStart(8)} events/s`)
  }
  const minutes = (performance.now() - began) / 60_000
  stopPlacing.abort()
  const placed = await placing
  while ((await count()).waiting > 0) await delay(100)
  relay.stop()
  await relaying
  const { dead } = await count()
  const missing = broker.versions.subarray(1).reduce((sum, version, index) => sum + (index < paid ? 2 : 1) - version, 0) + placed - broker.since.size
  console.log(`
${whole(total)} events of the outage in ${minutes.toFixed(1)} min, ${whole(total / minutes / 60)} a second, while ${whole(placed)} more orders were placed, ${whole(placed / minutes / 60)} a second

  dead           ${whole(dead).padStart(9)}
  missing        ${whole(missing).padStart(9)}
  out of order   ${whole(broker.outOfOrder).padStart(9)}
  twice          ${whole(broker.duplicates).padStart(9)}`)
  if (dead + missing + broker.outOfOrder > 0) process.exitCode = 1

  /** As in the service: with a lease for this process, if the publisher takes events. */
  async function place (signal: AbortSignal): Promise<number> {
    const size = Math.max(1, Math.round(Number(options.rate) / 20))
    let placed = 0
    const published = []
    for (let due = performance.now(); !signal.aborted && Number(options.rate) > 0; due += 1_000 * size / Number(options.rate)) {
      await delay(Math.max(0, due - performance.now()))
      const leaseMs = relay.ownLeaseMs
      const since = performance.now()
      const placements = await store.place(Array.from({ length: size }, () => {
        const id = uuidv7(Date.now())
        return { id, customer: 'alice', idempotencyKey: id, fingerprint: 'aa', currency: 'EUR', reference: null, createdAt: new Date(), items: [{ sku: 'ale', quantity: 1 }] }
      }), leaseMs)
      placed += placements.length
      if (leaseMs > 0) published.push(relay.publishPlaced(placements.filter(placement => placement.outcome === 'created'), since))
    }
    await Promise.all(published)
    return placed
  }
} finally {
  await close()
  await cluster.close()
}

async function count (): Promise<{ waiting: number, dead: number, attempts: number }> {
  return await withClient(url, async client => {
    const { rows: [row] } = await client.query(`SELECT count(*) FILTER (WHERE available_at IS NOT NULL)::int + (SELECT count(*) FROM outbox_leases)::int AS waiting,
      count(*) FILTER (WHERE dead_at IS NOT NULL)::int AS dead, count(*) FILTER (WHERE attempts > 0 AND available_at IS NOT NULL)::int AS attempts FROM outbox`)
    return row
  })
}
