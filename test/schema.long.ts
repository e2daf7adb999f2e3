import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import pg from 'pg'
import { test, type Test } from 'tap'
import { databaseUrlOf } from '../config.ts'
import { migrate, settle } from '../prisma/migrate.ts'
import { seed } from '../prisma/seed.ts'
import { missing, Program } from '../verify/program.ts'
import { freePort } from '../verify/free-port.ts'
import { createTestDatabase } from './postgres.ts'
import { spawnService, startService, type Service } from './service.ts'

const secret = 'a secret for tests, of more than thirty-two bytes'

for (const { how, parameters, prepare } of [
  { how: 'by ?schema=, and creates it', parameters: { schema: 'shop' } },
  { how: 'by a ?schema= that needs quotes', parameters: { schema: "The Smith's Shop" } },
  { how: 'by the search path in options', parameters: { options: '-c search_path=shop' }, prepare: 'CREATE SCHEMA shop' },
  { how: "by the database's search path", parameters: {}, prepare: "CREATE SCHEMA shop; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = shop, public', current_database()); END $$" }
] as Array<{ how: string, parameters: Record<string, string>, prepare?: string }>) {
  test(`the service uses only the schema that is named ${how}`, async t => {
    const { url, sql } = await database(t)
    if (prepare !== undefined) await sql.query(prepare)
    const shopUrl = withParameters(url, parameters)
    const shop = await startService(t, { DATABASE_URL: shopUrl })
    await seed({ url: databaseUrlOf({ DATABASE_URL: shopUrl }) ?? '' })
    await trade(t, shop)
    shop.child.kill('SIGTERM')
    t.same(await shop.exited, [0, null])
    const name = parameters.schema ?? 'shop'
    t.same(await schemasOf(sql), [name])
    t.same((await sql.query(`SELECT count(*)::int AS finished FROM ${pg.escapeIdentifier(name)}.stops WHERE exit_code = 0`)).rows, [{ finished: 1 }])
  })
}

test('two tenants in schemas of one database, started at once beside a third in public, share nothing', async t => {
  const { url, sql } = await database(t)
  await sql.query('CREATE SCHEMA one; CREATE SCHEMA two')
  const urls = [url, withParameters(url, { schema: 'one' }), withParameters(url, { schema: 'two' })]
  const tenants = await Promise.all(urls.map(url => startService(t, { DATABASE_URL: url })))
  for (const url of urls) await seed({ url: databaseUrlOf({ DATABASE_URL: url }) ?? '' })
  const key = randomUUID()
  const ids = await Promise.all(tenants.map(async tenant => (await place(tenant, key)).id))
  t.equal(new Set(ids).size, 3, 'one key makes an order for each tenant')
  for (const [index, tenant] of tenants.entries()) {
    t.match(await ask(tenant, 'GET', '/orders'), { orders: [{ id: ids[index] }] })
    t.equal((await place(tenant, key)).id, ids[index])
  }
  t.same(await schemasOf(sql), ['one', 'public', 'two'])
})

test('the migrator refuses a new ?schema= while public has the tables of a version that ignored it', async t => {
  const { url, sql } = await database(t)
  await migrate({ url })
  const named = databaseUrlOf({ DATABASE_URL: withParameters(url, { schema: 'shop' }) }) ?? ''
  await t.rejects(migrate({ url: named }), { code: 'not-empty', message: /earlier versions ignored \?schema=.*Nothing was applied.*CREATE SCHEMA "shop"/ })
  t.same(await schemasOf(sql), ['public'])
  await sql.query('CREATE SCHEMA shop')
  t.not((await migrate({ url: named })).applied.length, 0)
  t.same(await schemasOf(sql), ['public', 'shop'])
})

test('the migrator refuses a database with tables of something else, and changes nothing in it', async t => {
  const { url, sql } = await database(t)
  await sql.query('CREATE TABLE blog (); CREATE TABLE posts (); CREATE VIEW recent AS SELECT FROM posts; CREATE TABLE x ()')
  await t.rejects(migrate({ url }), {
    code: 'not-empty',
    message: /schema "public" of the database "test_\w+" holds tables \(blog, posts, recent, and 1 more\).*Nothing was applied.*\?schema=last_orders.*--applied \d+_orders/
  })
  t.same((await sql.query("SELECT FROM pg_tables WHERE schemaname = 'public'")).rows.length, 3)
  const beside = await startService(t, { DATABASE_URL: withParameters(url, { schema: 'last_orders' }) })
  t.equal((await fetch(`${beside.url}/readyz`)).status, 200, 'a schema of its own works, as the message says')
})

test('objects of an extension in the schema do not stop the migrator', async t => {
  const { url, sql } = await database(t)
  const { rows: [extension] } = await sql.query<{ name: string }>("SELECT name FROM pg_available_extensions WHERE name = 'pg_stat_statements'")
  if (extension === undefined) return t.pass('this Postgres has no extension to try')
  await sql.query('CREATE EXTENSION pg_stat_statements')
  t.not((await migrate({ url })).applied.length, 0)
})

test('tables of a dump without _prisma_migrations are accepted once a person has marked the migrations as applied', async t => {
  const { url, sql } = await database(t)
  const { applied } = await migrate({ url })
  await sql.query('DROP TABLE _prisma_migrations')
  await t.rejects(migrate({ url }), { code: 'not-empty' })
  for (const name of applied) await settle({ url, name, as: 'applied' })
  t.same(await migrate({ url }), { applied: [] })
})

test('the start refuses a schema that cannot be used and says why, with and without migrations', async t => {
  const { url, sql } = await database(t)
  await sql.query('CREATE SCHEMA locked')
  const role = `tenant_${process.pid}`
  await sql.query(`CREATE ROLE ${role} LOGIN PASSWORD 'tenant'`)
  t.teardown(() => sql.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`))
  const asTenant = new URL(url)
  asTenant.username = role
  asTenant.password = 'tenant'

  const cases: Array<[name: string, url: string, says: RegExp]> = [
    ['a search path that leads nowhere', withParameters(url, { options: '-c search_path=nowhere' }), /search path of this connection \(nowhere\) names no schema/],
    ['a schema without the right to use it', withParameters(asTenant.href, { schema: 'locked' }), /may not use it.*GRANT USAGE, CREATE ON SCHEMA "locked"/],
    ['a host where nothing listens', 'postgresql://me@127.0.0.1:1/orders', /cannot be reached .*ECONNREFUSED/],
    ['another on the path than in the URL', withParameters(url, { schema: 'public', options: '-c search_path=locked' }), /names the schema "public", but the connection uses "locked"/]
  ]
  for (const [name, url, says] of cases) {
    for (const more of [{}, { MIGRATE_ON_START: 'false' }]) {
      const service = spawnService(t, { PORT: '0', OPS_PORT: '0', AUTH_JWT_SECRET: secret, DATABASE_URL: url, ...more })
      t.same(await service.exited, [1, null], name)
      t.match(service.lines.join('\n'), says)
      t.notMatch(service.lines.join('\n'), /\n {4}at /, 'without a stack')
    }
  }
  await sql.query('REVOKE CREATE ON SCHEMA public FROM public')
  await t.rejects(migrate({ url: asTenant.href }), { code: 'refused', message: /permission denied for schema public.*GRANT USAGE, CREATE ON SCHEMA.*\?schema=/ }, 'the default of Postgres 15')
})

test('behind PgBouncer a connect_query names the schema, and a ?schema= is refused with the reason', { skip: missing('pgbouncer') ?? false }, async t => {
  const { url, sql } = await database(t)
  await sql.query('CREATE SCHEMA shop')
  const { hostname, port: directPort, username, password, pathname, searchParams } = new URL(url)
  const host = searchParams.get('host') ?? hostname
  const to = `host=${host} port=${searchParams.get('port') ?? (directPort || 5432)} dbname=${pathname.slice(1)} user=${username}${password && ` password=${password}`}`
  const port = await freePort()
  const settings = join(mkdtempSync(join(tmpdir(), 'last-orders-schema-')), 'pgbouncer.ini')
  t.teardown(() => rmSync(dirname(settings), { recursive: true }))
  writeFileSync(settings, `[databases]
shop = ${to} connect_query='SET search_path = shop'
plain = ${to}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
ignore_startup_parameters = lock_timeout
`)
  // PgBouncer refuses to run as root. The account of Postgres's socket may enter its folder.
  const isRoot = process.getuid?.() === 0
  if (isRoot) for (const path of [dirname(settings), settings]) chmodSync(path, 0o755)
  const account = isRoot ? ['-u', host.startsWith('/') ? execFileSync('id', ['-nu', String(statSync(host).uid)], { encoding: 'utf8' }).trim() : 'nobody'] : []
  const pgbouncer = await Program.start({ command: 'pgbouncer', args: [...account, settings], log: join(t.testdir(), 'pgbouncer.log') })
  t.teardown(() => pgbouncer.close())
  const through = (name: string): string => `postgresql://any@127.0.0.1:${port}/${name}`
  await pgbouncer.until('take connections', async () => await accepts(port))

  await migrate({ url: withParameters(url, { options: '-c search_path=shop' }) })
  await sql.query("INSERT INTO shop.products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000)")
  const shop = await startService(t, { DATABASE_URL: through('shop'), MIGRATE_ON_START: 'false' })
  await trade(t, shop)
  t.same(await schemasOf(sql), ['shop'])

  const refused = spawnService(t, { PORT: '0', OPS_PORT: '0', AUTH_JWT_SECRET: secret, DATABASE_URL: `${through('plain')}?schema=shop` })
  t.same(await refused.exited, [1, null])
  t.match(refused.lines.join('\n'), /refuses this connection .*options.*pooler.*connect_query/)
  const silent = `postgresql://any@127.0.0.1:${port}/plain?schema=shop`
  await t.rejects(migrate({ url: silent }), { code: 'no-schema', message: /connection uses "public".*pooler/ }, 'a pooler that drops unknown parameters is noticed')
})

async function accepts (port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  const isOpen = await once(socket, 'connect').then(() => true, () => false)
  socket.destroy()
  return isOpen
}

async function database (t: Test): Promise<{ url: string, sql: pg.Client }> {
  const { url } = await createTestDatabase(t, { empty: true })
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  return { url, sql }
}

function withParameters (url: string, parameters: Record<string, string>): string {
  const parsed = new URL(url)
  for (const [name, value] of Object.entries(parameters)) parsed.searchParams.set(name, value)
  return parsed.href
}

/** The schemas in which the service has tables. */
async function schemasOf (sql: pg.Client): Promise<string[]> {
  const { rows } = await sql.query<{ name: string }>("SELECT DISTINCT schemaname AS name FROM pg_tables WHERE tablename IN ('orders', 'stops', '_prisma_migrations') ORDER BY 1")
  return rows.map(({ name }) => name)
}

/** Makes the service run every kind of statement. */
async function trade (t: Test, service: Service): Promise<void> {
  const key = randomUUID()
  const order = await place(service, key)
  t.same(await place(service, key), order, 'a replay returns the order')
  const path = `/orders/${order.id}`
  t.match(await ask(service, 'GET', path), { id: order.id, status: 'placed' })
  t.match(await ask(service, 'POST', `${path}/pay`), { status: 'paid' })
  t.match(await ask(service, 'POST', `${path}/cancel`), { status: 'cancelled' })
  t.match(await ask(service, 'GET', `${path}/events`), { events: [{ type: 'placed' }, { type: 'paid' }, { type: 'cancelled' }] })
  t.match(await ask(service, 'GET', '/orders?status=cancelled'), { orders: [{ id: order.id }] })
  t.match(await ask(service, 'GET', '/products'), { products: [{ sku: 'ale-pint' }] })
}

async function place (service: Service, key: string): Promise<{ id: string }> {
  return await ask(service, 'POST', '/orders', { 'idempotency-key': key, 'content-type': 'application/json' },
    JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })) as { id: string }
}

async function ask (service: Service, method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<unknown> {
  const response = await fetch(service.url + path, { method, headers: { authorization: `Bearer ${service.token('alice')}`, ...headers }, ...body !== undefined && { body } })
  return await response.json()
}
