import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Cluster } from '../../postgres/cluster.ts'
import { volumeMissing } from '../../postgres/volume.ts'

t.test('a cluster whose disk can be full', { skip: volumeMissing() ?? false }, async t => {
  const log = join(t.testdir(), 'postgres.log')
  const cluster = await Cluster.create({ log, volumes: true })
  t.teardown(() => cluster.close())
  await cluster.primary.query('CREATE TABLE rows (text text)')
  const insert = async (): Promise<unknown> => await cluster.primary.query("INSERT INTO rows SELECT repeat('x', 1000) FROM generate_series(1, 5000)")

  await t.test('refuses statements that need room, and goes on when it has room again', async t => {
    await insert()
    await cluster.fillDisk()
    await t.rejects(insert(), { code: '53100' })
    t.same(await cluster.primary.query('SELECT count(*)::int AS count FROM rows'), [{ count: 5_000 }], 'reading goes on')
    await cluster.freeDisk()
    await insert()
  })

  await t.test('ends when its log has no room, and recovers all commits when it has room again', async t => {
    await cluster.fillDisk()
    await cluster.primary.session(async client => {
      for (;;) await client.query("SELECT pg_logical_emit_message(false, 'test', ''), pg_switch_wal()")
    }).catch(() => {})
    await cluster.freeDisk()
    t.match(readFileSync(log, 'utf8'), /PANIC: {2}could not write to file "pg_wal\/.*": No space left on device/)
    t.same(await cluster.primary.query('SELECT count(*)::int AS count FROM rows'), [{ count: 10_000 }])
    await insert()
  })
})
