import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test } from 'tap'
import { judge } from '../bench/orders/bounds.ts'
import { ratioTo, standings, type Measurement } from '../bench/orders/figures.ts'
import { cutOut, readTransactions } from '../bench/orders/pgbench.ts'

const run = promisify(execFile)
const bench = join(import.meta.dirname, '../bench/orders/run.ts')

function measurement (contestant: string, round: number, rate: number, given: Partial<Measurement> = {}): Measurement {
  return { contestant, round, rate, clients: 256, products: 'uniform', p50Ms: 1, p99Ms: 2, cpuUs: { service: 10, postgres: 20, load: 5 }, ...given }
}

test('only transactions of pgbench that ended within the measured window count', async t => {
  const transactions = readTransactions([
    '0 1 5000 0 1000 999999',
    '1 1 1000 0 1001 0',
    '0 2 3000 0 1001 500000',
    '1 2 2000 0 1002 999999',
    '0 3 9000 0 1003 0',
    ''
  ].join('\n'))
  t.equal(transactions.length, 5)
  const { rate, latency } = cutOut(transactions, 1_001_000, 1_003_000)
  t.equal(rate, 1.5, 'three in two seconds')
  t.equal(latency.p50, 2, 'in ms')
  t.equal(latency.p99, 3)
})

test('the ratio of two contestants is the median of their ratios in each round', async t => {
  const measurements = [
    measurement('last-orders', 1, 100), measurement('pg', 1, 50),
    measurement('last-orders', 2, 100), measurement('pg', 2, 25),
    measurement('last-orders', 3, 1_000), measurement('pg', 3, 1_000)
  ]
  t.equal(ratioTo('pg', measurements, 'rate'), 2)
  const [first, second] = standings(measurements, 256, 'uniform')
  t.match(first, { contestant: 'last-orders', rate: 100 }, 'the fastest comes first')
  t.match(second, { contestant: 'pg', rate: 50, ratio: 2 })
})

test('a round that lacks one of two contestants gives no ratio', async t => {
  t.equal(ratioTo('pg', [measurement('last-orders', 1, 100), measurement('pg', 2, 50)], 'rate'), undefined)
  t.same(judge([measurement('last-orders', 1, 100), measurement('pgbench-statement', 2, 50)]), [])
})

test('the bound of a rate is a minimum, and the bound of a latency is a maximum', async t => {
  const [rate] = judge([measurement('last-orders', 1, 399), measurement('pgbench-transaction', 1, 100)])
  t.match(rate, { peer: 'pgbench-transaction', figure: 'rate', bound: 4, ratio: 3.99, held: false })
  const lone = { clients: 1, p50Ms: 3 }
  const [latency] = judge([measurement('last-orders', 1, 1, lone), measurement('pg', 1, 1, { ...lone, p50Ms: 1.5 })])
  t.match(latency, { peer: 'pg', figure: 'p50Ms', bound: 2, ratio: 2, held: true })
})

test('the standings do not mix figures of different clients or products', async t => {
  const measurements = [measurement('last-orders', 1, 100), measurement('last-orders', 1, 700, { products: 'hot' }), measurement('last-orders', 1, 800, { clients: 64 })]
  t.match(standings(measurements, 256, 'uniform'), [{ rate: 100 }])
})

test('a small contest of the bench on a real Postgres counts every acknowledged order', async t => {
  const json = join(t.testdir({}), 'bench.json')
  const svg = join(t.testdirName, 'bench.svg')
  const { stdout } = await run(process.execPath, [bench, '--contestants', 'last-orders,pg,ceiling', '--clients', '8', '--products', 'uniform', '--rounds', '1', '--seconds', '1', '--warm-up', '1', '--json', json, '--chart', svg])
  t.match(stdout, /^ {2}last-orders +[\d,]+ +█+/m)
  t.match(stdout, /^Next: npm run bench/m)
  const { environment, measurements, failures, tables } = JSON.parse(readFileSync(json, 'utf8'))
  t.same(failures, [])
  t.match(environment, { node: process.version, 'postgres fsync': 'on', 'postgres synchronous_commit': 'on' })
  t.same(measurements.map(({ contestant }: { contestant: string }) => contestant).sort(), ['ceiling', 'last-orders', 'pg'].sort())
  for (const { contestant, rate, p50Ms, p99Ms, acknowledged, stored, cpuUs } of measurements) {
    t.ok(rate > 0 && p50Ms > 0 && p99Ms >= p50Ms, contestant)
    t.ok(acknowledged > rate / 2, `${contestant}: the acknowledged orders include those of the warm-up`)
    t.equal(stored, contestant === 'ceiling' ? null : acknowledged, `${contestant}: stored orders`)
    t.ok(cpuUs.service > 0 && cpuUs.load > 0, `${contestant}: CPU time`)
  }
  t.type(tables[0].standings.find(({ contestant }: { contestant: string }) => contestant === 'pg').ratio, 'number')
  t.match(readFileSync(svg, 'utf8'), /^<svg [^]*last-orders[^]*<\/svg>\n$/)
})

test('the bench refuses wrong arguments before it starts anything', async t => {
  for (const [args, says] of [
    [['--clients', '0'], /--clients has '0'/],
    [['--contestants', 'nobody'], /no contestant 'nobody'/],
    [['--products', 'some'], /no kind of products 'some'/]
  ] as const) {
    await t.rejects(run(process.execPath, [bench, ...args]), { code: 2, stderr: says })
  }
})
