import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { withClient } from '../../postgres/with-client.ts'
import { Progress } from '../../verify/progress.ts'
import { readArguments } from '../arguments.ts'
import { connectStore, fill, openBacklogs, type Events } from './backlog.ts'
import { median } from './figures.ts'
import { whole } from './table.ts'

const help = `Measures what a claim of the relay costs beside events that cannot be published, against an empty outbox.

npm run bench:dead -- [--events 1000000] [--claims 200]

--events  events of each shape, the first ones and those behind them together
--claims  claims for each shape; the shapes take turns

Exits with 1 if a claim takes more than twice as long as on an empty outbox.`

const boundRatio = 2

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

const options = readArguments({
  events: { type: 'string', default: '1000000' },
  claims: { type: 'string', default: '200' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['events', 'claims'])
const events = Number(options.events)

const dead = { dead_at: 'now()', attempts: '12', last_error: "'the topic is missing'" }
const shapes: ReadonlyArray<readonly [name: string, events: Events | undefined]> = [
  ['an empty outbox', undefined],
  ['dead ones', { orders: events, first: dead, followers: 0 }],
  ['dead ones, each with one behind it', { orders: events / 2, first: dead, followers: 1 }],
  ['dead ones, each with nine behind it', { orders: events / 10, first: dead, followers: 9 }],
  ['waiting out a backoff, each with one behind it', { orders: events / 2, first: { available_at: "now() + interval '1 day'", attempts: '3' }, followers: 1 }],
  ['under the lease of another claim, each with one behind it', { orders: events / 2, first: { available_at: "now() + interval '1 day'", attempts: '1' }, followers: 1 }],
  ['under the lease of a commit, each with one behind it', { orders: events / 2, first: { available_at: 'NULL', attempts: '1', tx: '1 + n / 100' }, followers: 1 }]
]

const directory = mkdtempSync(join(tmpdir(), 'last-orders-bench-'))
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
const progress = new Progress(process.stderr)
const { cluster, create } = await openBacklogs(join(directory, 'postgres.log'))
try {
  const measured = []
  for (const [index, [name, shape]] of shapes.entries()) {
    const url = await create(`shape_${index}`)
    if (shape?.first.available_at === 'NULL') await withClient(url, async client => await client.query(`INSERT INTO outbox_leases (tx, expires_at) SELECT n, now() + interval '1 day' FROM generate_series(1, ${1 + shape.orders / 100}) n`))
    if (shape !== undefined) await fill(url, shape, progress, name)
    measured.push({ name, shape, times: [] as number[], ...connectStore(url), url })
  }
  for (let n = 1; n <= Number(options.claims); n++) {
    progress.state(`claim ${n} of ${options.claims}`)
    for (const { store, times } of measured) {
      const began = performance.now()
      const claimed = await store.claimEvents(500, 30_000)
      times.push(performance.now() - began)
      if (claimed.length > 0) throw new Error(`${claimed.length} events were claimed that cannot be published.`)
    }
  }
  const empty = median(measured[0]?.times ?? [])
  console.log('A claim beside events that cannot be published\n')
  console.log('       events                                                              p50 ms')
  const ratios = measured.map(({ name, shape, times }) => {
    const ratio = median(times) / empty
    console.log(`  ${whole(shape === undefined ? 0 : shape.orders * (1 + shape.followers)).padStart(11)}  ${name.padEnd(60)} ${median(times).toFixed(2).padStart(8)}  ${ratio.toFixed(2)} ×`)
    return ratio
  })
  const worst = Math.max(...ratios)
  const held = worst <= boundRatio
  console.log(`\n${held ? '✓' : '✗'} a claim ≤ ${boundRatio.toFixed(2)} × that of an empty outbox${`${worst.toFixed(2)} ×`.padStart(12)}`)
  if (!held) process.exitCode = 1
  for (const { close } of measured) await close()
} finally {
  await cluster.close()
}
