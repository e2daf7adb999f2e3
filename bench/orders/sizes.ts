import { PrismaPg } from '@prisma/adapter-pg'
import { createHash } from 'node:crypto'
import pg from 'pg'
import { PrismaClient } from '#prisma'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { OrderStore } from '../../orders/store.ts'
import { DatabaseFunctions } from '../../prisma/database-functions.ts'
import { UtcClient } from '../../prisma/utc-client.ts'
import { Progress } from '../../verify/progress.ts'
import { readArguments } from '../arguments.ts'
import { Contest } from './contest.ts'
import { customers } from './fill.ts'
import { environmentLines, whole } from './table.ts'

const help = `Measures the bytes per order of each table and index, as they grow order by order: docs/growth.md.

node bench/orders/sizes.ts [--orders 1000000]

Orders have one line, are placed through the store in batches of 128, and have their first events published.`

const batch = 128
const inFlight = 4

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
await main()

async function main (): Promise<void> {
  const options = readArguments({ orders: { type: 'string', default: '1000000' }, help: { type: 'boolean', short: 'h', default: false } }, help, ['orders'])
  const orders = Number(options.orders)
  const progress = new Progress(process.stderr)
  const contest = await Contest.create()
  try {
    console.log(`${environmentLines(await contest.environment()).join('\n')}\n`)
    const database = await contest.createDatabase('uniform')
    const prisma = await contest.session(async client => connect(client, database), database)
    try {
      await placeAll(new OrderStore(prisma, new DatabaseFunctions(prisma)), orders, placed => progress.state(`${whole(placed)} of ${whole(orders)} orders`))
      await contest.query('VACUUM ANALYZE', database)
      const sizes = await contest.query<{ name: string, bytes: string }>(`
        SELECT relname AS name, pg_relation_size(oid) + CASE relkind WHEN 'r' THEN pg_relation_size(oid, 'fsm') + pg_relation_size(oid, 'vm') ELSE 0 END AS bytes
          FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i') AND relname ~ '^(order|outbox)' ORDER BY relname`, database)
      console.log(`Bytes an order, ${whole(orders)} placed\n`)
      for (const { name, bytes } of sizes) console.log(`  ${name.padEnd(40)} ${(Number(bytes) / orders).toFixed(1).padStart(7)}`)
      console.log(`  ${'together'.padEnd(40)} ${(sizes.reduce((sum, { bytes }) => sum + Number(bytes), 0) / orders).toFixed(1).padStart(7)}`)
    } finally {
      await prisma.$disconnect()
    }
  } finally {
    await contest.close()
  }
}

function connect ({ host, port, user, password }: pg.Client, database: string): PrismaClient {
  const pool = new pg.Pool({ Client: UtcClient, host, port, user, password: String(password), database, max: inFlight })
  return new PrismaClient({ adapter: new PrismaPg(pool, { disposeExternalPool: true }) })
}

async function placeAll (store: OrderStore, orders: number, onProgress: (placed: number) => void): Promise<void> {
  let begun = 0
  await Promise.all(Array.from({ length: inFlight }, async () => {
    while (begun < orders) {
      const from = begun
      begun = Math.min(orders, begun + batch)
      const placements = await store.place(Array.from({ length: begun - from }, (_, n) => {
        const key = crypto.randomUUID()
        return {
          id: uuidv7(Date.now()),
          customer: `customer-${(from + n) * 7_919 % customers}`,
          idempotencyKey: key,
          fingerprint: createHash('sha256').update(key).digest('hex'),
          currency: 'EUR',
          reference: null,
          createdAt: new Date(),
          items: [{ sku: `product-${String((from + n) % 1_000).padStart(4, '0')}`, quantity: 1 }]
        }
      }), 30_000)
      await store.settleOwn([...new Set(placements.flatMap(placed => placed.outcome === 'created' ? [placed.tx] : []))], [])
      onProgress(begun)
    }
  }))
}
