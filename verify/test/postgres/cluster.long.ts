import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { Cluster } from '../../postgres/cluster.ts'
import { signalProcess } from '../../../postgres/postmaster.ts'

type Row = Record<string, unknown>

/** Inserts one row after another until it fails. `reaches(n)`: resolves when n more have been committed. */
async function insertRows (url: string) {
  const client = await connect(url)
  const committed: number[] = []
  const waiting: Array<{ count: number, resolve: () => void }> = []
  async function insert (): Promise<number[]> {
    try {
      for (let number = 1; ; number++) {
        await client.query('INSERT INTO rows VALUES ($1)', [number])
        committed.push(number)
        for (const { count, resolve } of waiting) if (committed.length >= count) resolve()
      }
    } catch {
      return committed
    }
  }
  return {
    committed: insert(),
    reaches: async (more: number) => await new Promise<void>(resolve => waiting.push({ count: committed.length + more, resolve }))
  }
}

async function connect (url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  await client.connect()
  return client
}

async function query (url: string, text: string): Promise<Row[]> {
  const client = await connect(url)
  try {
    return (await client.query<Row>(text)).rows
  } finally {
    await client.end()
  }
}

async function missing (url: string, committed: number[]): Promise<number[]> {
  const rows = new Set((await query(url, 'SELECT number FROM rows')).map(row => row.number))
  return committed.filter(number => !rows.has(number))
}

async function createCluster (t: Test): Promise<{ cluster: Cluster, log: string }> {
  const log = join(t.testdir(), 'postgres.log')
  const cluster = await Cluster.create({ postgres: { settings: { max_connections: '37' } }, log })
  t.teardown(() => cluster.close())
  await query(cluster.url, 'CREATE TABLE rows (number int PRIMARY KEY)')
  return { cluster, log }
}

t.test('a cluster of the harness', async t => {
  const { cluster, log } = await createCluster(t)

  await t.test('is durable, has the requested settings, and refuses clients without a password', async t => {
    t.same(await query(cluster.url, "SELECT current_database() AS db, current_setting('max_connections') AS connections, current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit"),
      [{ db: cluster.database, connections: '37', fsync: 'on', commit: 'on' }])
    const wrong = new URL(cluster.url)
    wrong.password = 'wrong'
    await t.rejects(query(wrong.href, 'SELECT 1'), { code: '28P01' })
  })

  for (const how of ['immediate', 'kill'] as const) {
    await t.test(`has every acknowledged commit after a crash under load: ${how}`, async t => {
      await query(cluster.url, 'TRUNCATE rows')
      const load = await insertRows(cluster.url)
      await load.reaches(100)
      const { url } = cluster
      const logged = readFileSync(log).length
      await cluster.crash(how)
      const committed = await load.committed
      await t.rejects(query(url, 'SELECT 1'), { code: 'ECONNREFUSED' })
      await cluster.recover()
      t.equal(cluster.url, url)
      t.same(await missing(url, committed), [])
      const written = readFileSync(log).subarray(logged).toString()
      t.match(written, /was not properly shut down; automatic recovery in progress/)
      t[how === 'immediate' ? 'match' : 'notMatch'](written, /received immediate shutdown request/)
    })
  }
})

t.test('a standby', async t => {
  const { cluster } = await createCluster(t)
  await t.rejects(cluster.failOver(), /There is no standby/)

  await t.test('has every acknowledged commit after its promotion, round after round', async t => {
    for (const round of [1, 2, 3]) {
      await query(cluster.url, 'TRUNCATE rows')
      const load = await insertRows(cluster.url)
      // Under load, so that the copied folder changes meanwhile.
      await load.reaches(20)
      await cluster.addStandby()
      await load.reaches(100)
      const { url } = cluster
      await cluster.failOver()
      const committed = await load.committed
      t.not(cluster.url, url)
      await t.rejects(query(url, 'SELECT 1'), { code: 'ECONNREFUSED' })
      t.same(await missing(cluster.url, committed), [], `round ${round}`)
      await query(cluster.url, 'INSERT INTO rows VALUES (0)')
    }
  })

  await t.test('is promoted while the primary is paused: the woken primary accepts writes, and can acknowledge none of them', async t => {
    await query(cluster.url, 'TRUNCATE rows')
    await cluster.addStandby()
    const load = await insertRows(cluster.url)
    await load.reaches(20)
    const { url } = cluster
    const old = await cluster.depose()
    t.not(cluster.url, url)
    old.wake()
    while ((await query(url, "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")).length === 0);
    t.same(await query(url, 'SELECT pg_is_in_recovery() AS standby'), [{ standby: false }])
    await cluster.retire()
    t.same(await missing(cluster.url, await load.committed), [])
    t.notOk(existsSync(old.data))
    await t.rejects(query(url, 'SELECT 1'), { code: 'ECONNREFUSED' })
  })

  await t.test('delays every commit until it has it, even after a crash of the primary', async t => {
    await cluster.addStandby()
    await cluster.crash('kill')
    await cluster.recover()
    const [sender] = await query(cluster.url, 'SELECT pid FROM pg_stat_replication')
    const pid = Number(sender?.pid)
    signalProcess(pid, 'SIGSTOP')
    let isAnswered = false
    const insert = query(cluster.url, 'INSERT INTO rows VALUES (-1)').then(() => { isAnswered = true })
    while ((await query(cluster.url, "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")).length === 0);
    t.equal(isAnswered, false)
    signalProcess(pid, 'SIGCONT')
    await insert
  })
})

t.test('no process or file of a cluster outlives the harness, even if the harness does not close it', async t => {
  const log = join(t.testdir(), 'postgres.log')
  const harness = spawn(process.execPath, ['--input-type=module-typescript', '--eval', `
    import { Cluster } from '${import.meta.resolve('../../postgres/cluster.ts')}'
    const cluster = await Cluster.create({ log: '${log}' })
    console.log(cluster.url, cluster.primary.data)
    process.on('SIGTERM', () => process.exit())
  `], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(harness.stdout, 'data') as [Buffer]
  const [url = '', data = ''] = line.toString().trim().split(' ')
  await query(url, 'SELECT 1')
  t.ok(existsSync(data))
  harness.kill('SIGTERM')
  await once(harness, 'exit')
  t.notOk(existsSync(data))
  await t.rejects(query(url, 'SELECT 1'), { code: 'ECONNREFUSED' })
})

t.test('the error contains the output of Postgres if it cannot start', async t => {
  const log = join(t.testdir(), 'postgres.log')
  await t.rejects(Cluster.create({ postgres: { settings: { work_memory: '1' } }, log }),
    { message: /unrecognized configuration parameter "work_memory"/ })
})
