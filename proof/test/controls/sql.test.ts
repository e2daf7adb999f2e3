import { join } from 'node:path'
import pg from 'pg'
import t from 'tap'
import { changeFunction } from '../../controls/flaws/sql.ts'
import { Cluster } from '../../../verify/postgres/cluster.ts'
import orderService from '../../order-service.ts'

t.test('a function is changed as it stands in the database, and a missing part is an error', async t => {
  if (orderService.postgres === undefined) throw new Error('The order service has no Postgres.')
  const cluster = await Cluster.create({ postgres: orderService.postgres, log: join(t.testdir(), 'postgres.log') })
  t.teardown(async () => await cluster.close())
  const client = new pg.Client({ connectionString: cluster.url })
  await client.connect()
  t.teardown(async () => await client.end())
  await client.query("CREATE FUNCTION answer() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'whole'; END $$")

  await changeFunction(client, 'answer', [['whole', 'broken $& $1']])
  t.strictSame((await client.query('SELECT answer()')).rows, [{ answer: 'broken $& $1' }])

  await t.rejects(changeFunction(client, 'answer', [['broken', 'mended'], ['whole', 'broken']]), { message: /The function answer has no "whole" to be broken, and nothing was proved/ })
  t.strictSame((await client.query('SELECT answer()')).rows, [{ answer: 'broken $& $1' }], 'the function stays as it was')
})
