import { join } from 'node:path'
import t from 'tap'
import { Cluster } from '../../postgres/cluster.ts'
import { debianPostgres } from '../../postgres/debian.ts'
import { withClient } from '../../../postgres/with-client.ts'

const bin = debianPostgres()

t.test('a dump restored into a new cluster holds all earlier writes, and the old cluster takes no writes meanwhile', { skip: bin === undefined && "Debian's PostgreSQL is not installed" }, async t => {
  const cluster = await Cluster.create({
    postgres: { binaries: () => ({ initdb: join(bin ?? '', 'initdb'), postgres: join(bin ?? '', 'postgres') }) },
    log: join(t.testdir(), 'postgres.log')
  })
  t.teardown(() => cluster.close())
  const { url } = cluster
  const count = async (url: string): Promise<unknown> => await withClient(url, async client => (await client.query('SELECT count(*)::int AS count FROM rows')).rows[0])

  await withClient(url, async client => {
    await client.query('CREATE TABLE rows AS SELECT n FROM generate_series(1, 1000) AS n')
    await client.query('BEGIN')
    await client.query('INSERT INTO rows VALUES (0)')
    await cluster.closeForWrites()
    await t.rejects(client.query('COMMIT'))
  })
  await t.rejects(withClient(url, async client => await client.query('INSERT INTO rows VALUES (0)')), { code: '25006' })
  await cluster.move()
  t.not(cluster.url, url)
  t.same(await count(cluster.url), { count: 1_000 })
  t.same(await count(url), { count: 1_000 }, 'the old server can be read until it is retired')
  await withClient(cluster.url, async client => await client.query('INSERT INTO rows VALUES (0)'))
  await cluster.retire()
  await t.rejects(count(url), { code: 'ECONNREFUSED' })
})
