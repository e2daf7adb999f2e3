import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { migrate } from '../prisma/migrate.ts'
import { findBinaries } from '../postgres/binaries.ts'
import { Cluster } from '../verify/postgres/cluster.ts'
import { startAddress } from './address.ts'
import { startApp, type RunningApp } from './app.ts'
import { Follower } from './follower.ts'

// These tests give the database another history while streams follow it. docs/backup-and-restore.md describes each way;
// docs/backup-and-restore/try.ts tries its commands.

const debian = '/usr/lib/postgresql/15/bin'
const dumps = existsSync(join(debian, 'pg_dump'))
const customers = ['alice', 'bob', 'carol']

const restored = await createCluster(t, findBinaries)
const address = await startAddress(t, restored.primary.port)

t.test('after pg_dump | psql into a new cluster under load, streams tell every event once, and tell the gap', { skip: dumps ? false : 'needs PostgreSQL 15 of Debian' }, async t => {
  const old = await createCluster(t, () => ({ initdb: join(debian, 'initdb'), postgres: join(debian, 'postgres') }))
  await prepare(old)
  address.lead(old.primary.port)
  const service = await startOn(t, old)
  // The transaction ids of the dump are then ahead of all ids that the new cluster will give.
  await old.primary.query('DO $$ BEGIN FOR i IN 1..5000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$')
  const followers = customers.flatMap(customer =>
    [{ customer, follower: follow(t, service, customer) }, { customer, follower: follow(t, service, customer, { leavesAfter: 20 }) }])
  for (const { follower } of followers) await follower.connected()
  const load = startLoad(service)
  await load.acknowledged(100)

  dump(urlOf(old), urlOf(restored))
  const inDump = (await restored.primary.query<{ count: number }>('SELECT count(*)::int FROM outbox', [], restored.database))[0]?.count ?? 0
  // These orders are acknowledged after the dump, told to the streams, and lost with the old cluster.
  await load.acknowledged(40)
  await Promise.all(followers.map(({ customer, follower }) => follower.has(told => told.some(({ data }) => data.orderId === load.lastOf(customer)))))
  address.lead(restored.primary.port)
  await old.primary.stop('fast')
  await load.acknowledged(100)
  await load.stop()

  const events = await eventsOf(restored)
  t.ok(events.length > inDump + 100, `${inDump} events in the dump, ${events.length} in the end`)
  for (const { customer, follower } of followers) await isTold(t, follower, customer, events, 'gap')

  const again = follow(t, service, 'alice')
  await again.connected()
  const id = await place(service, 'alice')
  await again.has(told => told.length > 0)
  t.same(again.told.map(({ data }) => data.orderId), [id], 'a client without a cursor gets no old events')
})

t.test('streams go on without a gap after a crash of Postgres that loses nothing', async t => {
  await prepare(restored)
  const service = await startOn(t, restored)
  const before = await lastEpoch()
  const stayer = await follow(t, service, 'dave').connected()
  const comer = await follow(t, service, 'dave', { leavesAfter: 1 }).connected()
  for (let n = 0; n < 3; n++) await place(service, 'dave')
  await restored.crash('kill')
  await restored.recover()
  // They are placed at once, so that they begin the epoch together.
  await Promise.all(Array.from({ length: 12 }, (_, n) => place(service, n % 2 === 0 ? 'dave' : 'erin')))
  const events = await eventsOf(restored)
  t.equal(await lastEpoch(), before + 1)
  for (const one of [stayer, comer]) await isTold(t, one, 'dave', events, 'no gap')
})

t.test('streams tell a gap each time that an older copy of the data is put back under the running service', async t => {
  const service = await startOn(t, restored)
  const follower = await follow(t, service, 'frank').connected()
  const placeAndTell = async (count: number): Promise<void> => {
    const ids = await Promise.all(Array.from({ length: count }, () => place(service, 'frank')))
    await follower.has(told => ids.every(id => told.some(({ data }) => data.orderId === id)))
  }
  await placeAndTell(1)
  const { data } = restored.primary
  const copy = `${data}-copy`
  const replace = (from: string, to: string): void => { execFileSync('bash', ['-c', 'rm -rf "$1" && cp -a "$0" "$1"', from, to]) }
  await restored.primary.stop('fast')
  replace(data, copy)
  await restored.recover()
  const putBack = async (): Promise<void> => {
    await restored.primary.stop('fast')
    replace(copy, data)
    await restored.recover()
  }
  await placeAndTell(4)
  const ofTheFirst = follower.told.at(-1)?.id
  await putBack()
  await placeAndTell(2)
  await putBack()
  await placeAndTell(2)
  const last = (await eventsOf(restored)).slice(-2).map(({ orderId }) => orderId)
  t.same(follower.told.map(({ event }) => event), ['placed', ...Array(4).fill('placed'), 'gap', 'placed', 'placed', 'gap', 'placed', 'placed'])
  t.same(follower.told.slice(-2).map(({ data }) => data.orderId), last)
  const late = follow(t, service, 'frank', { lastEventId: ofTheFirst })
  await late.has(told => told.length === 3)
  t.same(late.told.map(({ event, data }) => [event, data.orderId]), [['gap', undefined], ...last.map(id => ['placed', id])],
    'a cursor of the first history, whose epoch has the number of the third, gets all events of the third')
  await late.leave()
  const again = follow(t, service, 'frank', { lastEventId: late.told[0]?.id })
  await again.has(told => told.length === 2)
  t.same(again.told.map(({ event }) => event), ['placed', 'placed'], 'the gap has an id, and is told once')
})

t.test('after the promotion of a standby that lacks orders, streams tell each event once, and tell a gap only to clients that saw more', async t => {
  const service = await startOn(t, restored)
  await restored.addStandby()
  const standby = restored.standby
  if (standby === undefined) throw new Error('There is no standby.')
  const before = await follow(t, service, 'grace').connected()
  const heidi = await follow(t, service, 'heidi').connected()
  await place(service, 'heidi')
  const kept = await place(service, 'grace')
  await before.has(told => told.length === 1)
  await heidi.has(told => told.length === 1)
  await heidi.leave()
  await restored.primary.configure({ synchronous_standby_names: '' })
  await until(async () => (await restored.primary.query<{ value: string }>("SELECT current_setting('synchronous_standby_names') AS value"))[0]?.value === '')
  await until(async () => (await standby.query<{ held: boolean }>('SELECT horizon > (SELECT max(tx) FROM outbox) AS held FROM epochs ORDER BY epoch DESC LIMIT 1', [], restored.database))[0]?.held === true)
  await restored.holdBackStandby()
  const lost = await place(service, 'grace')
  await before.has(told => told.length === 2)

  await restored.failOver()
  address.lead(standby.port)
  await until(async () => await place(service, 'grace').then(() => true, () => false))
  await isTold(t, before, 'grace', await eventsOf(restored), 'gap')
  t.same(before.told.slice(0, 3).map(({ event, data }) => [event, data.orderId]), [['placed', kept], ['placed', lost], ['gap', undefined]])
  const resumed = follow(t, service, 'heidi', { lastEventId: heidi.told.at(-1)?.id })
  await place(service, 'heidi')
  await resumed.has(told => told.length > 0)
  t.same(resumed.told.map(({ event }) => event), ['placed'], 'a client that saw no lost event gets no gap')
})

async function lastEpoch (): Promise<number> {
  return (await restored.primary.query<{ epoch: number }>('SELECT max(epoch) AS epoch FROM epochs', [], restored.database))[0]?.epoch ?? -1
}

interface Stored {
  orderId: string
  version: number
  tx: string
  customer: string
}

/** Asserts that a follower got every stored event of its customer once and in order, and lost events only before a gap. */
async function isTold (t: Test, follower: Follower, customer: string, events: Stored[], gap: 'gap' | 'no gap'): Promise<void> {
  const nameOf = ({ id }: { id: string }): string => id.split('.').slice(0, 3).join('.')
  const stored = events.filter(event => event.customer === customer).map(({ tx, orderId, version }) => `${tx}.${orderId}.${version}`)
  await follower.has(told => told.some(message => nameOf(message) === stored.at(-1)))
  const isStored = new Set(stored)
  const names = follower.told.filter(({ event }) => event !== 'gap').map(nameOf)
  t.equal(new Set(names).size, names.length, `${customer}: no event came twice`)
  t.same(names.filter(name => isStored.has(name)), stored, `${customer}: all ${stored.length} came, in order`)
  const gaps = follower.told.filter(({ event }) => event === 'gap')
  const lost = follower.told.findLastIndex(message => message.event !== 'gap' && !isStored.has(nameOf(message)))
  t.match(follower.refused, [])
  if (gap === 'no gap') {
    t.same([gaps, lost], [[], -1])
  } else {
    t.match(gaps, [{ data: { reason: 'another-history', detail: /GET \/orders/ } }], `${customer}: one gap`)
    t.ok(lost >= 0 && lost < follower.told.findIndex(({ event }) => event === 'gap'), `${customer}: lost events came before the gap`)
  }
}

async function eventsOf (cluster: Cluster): Promise<Stored[]> {
  return await cluster.primary.query<Stored & pg.QueryResultRow>(`
    SELECT e.order_id AS "orderId", e.version, e.tx, o.customer FROM outbox e JOIN orders o ON o.id = e.order_id
     ORDER BY e.tx, e.order_id, e.version`, [], cluster.database)
}

function follow (t: Test, { url, token }: RunningApp, customer: string, options: { leavesAfter?: number, lastEventId?: string | undefined } = {}): Follower {
  return new Follower(t, url, token(customer), options)
}

/** Makes a cluster with a user for the service, who owns the database and is no superuser. The password is the same in each cluster. */
async function createCluster (t: Test, binaries: () => { initdb: string, postgres: string }): Promise<Cluster> {
  const cluster = await Cluster.create({ postgres: { binaries }, log: join(t.testdir({}), `${randomUUID()}.log`) })
  t.teardown(() => cluster.close())
  await cluster.primary.query(`CREATE ROLE shop LOGIN PASSWORD 'hush'; ALTER DATABASE ${cluster.database} OWNER TO shop`)
  return cluster
}

function urlOf (cluster: Cluster, port = cluster.primary.port): string {
  const url = new URL(cluster.urlAt(port))
  url.username = 'shop'
  url.password = 'hush'
  return url.href
}

async function prepare (cluster: Cluster): Promise<void> {
  await migrate({ url: urlOf(cluster) })
  await cluster.primary.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000) ON CONFLICT DO NOTHING", [], cluster.database)
}

/** Starts the service. It connects through an address that can lead elsewhere. */
async function startOn (t: Test, cluster: Cluster): Promise<RunningApp> {
  return await startApp(t, { databaseUrl: urlOf(cluster, address.port), connectTo: cluster.url })
}

async function place ({ ask, token }: RunningApp, customer: string): Promise<string> {
  const { status, body } = await ask<{ id: string }>('POST', '/orders', {
    token: token(customer),
    body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] },
    headers: { 'idempotency-key': randomUUID() }
  })
  if (status !== 201) throw new Error(`${status} ${JSON.stringify(body)}`)
  return body.id
}

/** Customers who place orders and pay for each, one after another. */
function startLoad (service: RunningApp) {
  const last = new Map<string, string>()
  let count = 0
  const load = new AbortController()
  const { ask, token } = service
  const working = customers.map(async customer => {
    while (!load.signal.aborted) {
      const id = await place(service, customer).catch(() => undefined)
      if (id === undefined) continue
      last.set(customer, id)
      count++
      await ask('POST', `/orders/${id}/pay`, { token: token(customer) })
    }
  })
  return {
    /** Resolves when this many more orders are acknowledged. */
    async acknowledged (more: number): Promise<void> {
      const wanted = count + more
      await until(async () => count >= wanted)
    },
    lastOf: (customer: string) => last.get(customer),
    async stop (): Promise<void> {
      load.abort()
      await Promise.all(working)
    }
  }
}

function dump (from: string, to: string): void {
  execFileSync('bash', ['-euo', 'pipefail', '-c', `${debian}/pg_dump "$FROM" | ${debian}/psql -X -q -v ON_ERROR_STOP=1 "$TO"`], { env: { ...process.env, FROM: from, TO: to } })
}

async function until (isTrue: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 30_000
  while (!await isTrue()) {
    if (performance.now() > giveUpAt) throw new Error(`This has not become true within 30 s: ${String(isTrue)}`)
    await delay(10)
  }
}
