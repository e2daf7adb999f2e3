import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { appendFileSync, chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { migrate } from '../../prisma/migrate.ts'
import { startAddress } from '../../test/address.ts'
import { startApp, type RunningApp } from '../../test/app.ts'
import { Follower } from '../../test/follower.ts'
import { freePort } from '../../verify/free-port.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import { withClient } from '../../postgres/with-client.ts'

// Follows docs/backup-and-restore.md on PostgreSQL 15 of Debian: that page is the only place in which the commands stand.

const bin = '/usr/lib/postgresql/15/bin'
const page = readFileSync(join(import.meta.dirname, '../backup-and-restore.md'), 'utf8')
const blocks = new Map([...page.matchAll(/^```sh (\w+)\n([^]*?)^```$/gm)].map(([, name = '', content = '']) => [name, content]))

if (process.getuid?.() !== 0 || !existsSync(bin)) throw new Error('This runs as root, on a Debian with postgresql-15. Nothing was tried.')
const account = { uid: Number(execFileSync('id', ['-u', 'postgres'])), gid: Number(execFileSync('id', ['-g', 'postgres'])) }
const directory = mkdtempSync(join(tmpdir(), 'last-orders-restores-'))
chmodSync(directory, 0o755)

/** What a way of restoring begins with: a cluster, the service on it by an address that can lead elsewhere, and who follows alice's orders. */
interface Start {
  old: Cluster
  password: string
  env: Record<string, string>
  work: string
  service: RunningApp
  follower: Follower
  lead: (port: number) => void
  t: { teardown (end: () => unknown): void }
}

await attempt('dump', {}, async ({ old, service, env, work, lead, follower, t }) => {
  const restored = await emptyCluster(t, work)
  const last = await told(service, follower)
  Object.assign(env, urlsOf('NEW', restored))
  run('dump', env)
  run('check', env)
  lead(restored.primary.port)
  await old.primary.stop('fast')
  await isTold(follower, [last, await told(service, follower)])
})

await attempt('point-in-time', { archive_mode: 'on', archive_command: 'cp %p ARCHIVE/%f', wal_level: 'replica' }, async ({ old, service, env, work, lead, follower, t }) => {
  const [BACKUP, DATA] = [join(work, 'backup'), join(work, 'restored')]
  Object.assign(env, { BACKUP, DATA })
  const before = await told(service, follower)
  run('backup', env)
  const kept = await told(service, follower)
  env.UNTIL = (await old.primary.query<{ now: string }>('SELECT clock_timestamp()::text AS now'))[0]?.now ?? ''
  const lost = await told(service, follower)
  const file = (await old.primary.query<{ file: string }>('SELECT pg_walfile_name(pg_switch_wal()) AS file'))[0]?.file ?? ''
  while (!existsSync(join(env.ARCHIVE ?? '', file))) await delay(50)
  await old.primary.stop('fast')
  // The copy has the port of the old server.
  t.teardown(() => { inShell('pg_ctl --pgdata="$DATA" --mode=immediate stop >/dev/null', env) })
  run('recover', env)
  lead(old.primary.port)
  await until(async () => await withClient(old.url, async client => (await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby')).rows[0]?.standby === false).catch(() => false))
  Object.assign(env, { NEW: env.OLD })
  const after = await told(service, follower)
  run('check', env)
  await isTold(follower, [before, kept, lost, 'gap', after])
})

await attempt('pg_upgrade', {}, async ({ old, password, service, env, work, lead, follower, t }) => {
  const [DATA, port] = [join(work, 'upgraded'), await freePort()]
  Object.assign(env, { DATA, OLD_DATA: old.primary.data, OLD_BIN: bin, NEW_BIN: bin, NEW: old.primary.url(old.database, port), NEW_ADMIN: old.primary.url('postgres', port), PGPASSWORD: password })
  const last = await told(service, follower)
  await old.primary.stop('fast')
  writeFileSync(join(work, 'password'), password)
  inShell(`initdb --pgdata="$DATA" --username=postgres --pwfile=${join(work, 'password')} --auth=scram-sha-256 --encoding=UTF8 --locale=C >/dev/null`, env)
  appendFileSync(join(DATA, 'postgresql.conf'), `port = ${port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n`)
  t.teardown(() => { inShell('pg_ctl --pgdata="$DATA" --mode=immediate stop >/dev/null', env) })
  run('upgrade', env)
  run('check', env)
  lead(port)
  await isTold(follower, [last, await told(service, follower)])
})

await attempt('logical replication', { wal_level: 'logical' }, async ({ old, service, env, work, lead, follower, t }) => {
  const fresh = await emptyCluster(t, work)
  Object.assign(env, urlsOf('NEW', fresh))
  const last = await told(service, follower)
  run('replicate', env)
  await until(async () => (await fresh.primary.query<{ left: number }>("SELECT count(*)::int AS left FROM pg_subscription_rel WHERE srsubstate <> 'r'", [], fresh.database))[0]?.left === 0)
  const late = await told(service, follower)
  await service.app.close()
  run('cut', env)
  await old.primary.stop('fast')
  lead(fresh.primary.port)
  const next = await startApp(t as never, { databaseUrl: service.databaseUrl, connectTo: fresh.url })
  const resumed = new Follower(t as never, next.url, next.token('alice'), { lastEventId: follower.told.at(-1)?.id })
  const after = await told(next, resumed)
  run('check', env)
  await isTold(follower, [last, late])
  await isTold(resumed, [after])
})

rmSync(directory, { recursive: true })
console.log('docs/backup-and-restore.md was followed to its end.')

async function attempt (name: string, settings: Record<string, string>, restore: (start: Start) => Promise<void>): Promise<void> {
  console.log(`── ${name}`)
  const ends: Array<() => unknown> = []
  const t = { teardown: (end: () => unknown) => { ends.unshift(end) } }
  const work = join(directory, name.replace(' ', '-'))
  mkdirSync(join(work, 'archive'), { recursive: true })
  for (const path of [work, join(work, 'archive')]) chownSync(path, account.uid, account.gid)
  try {
    const ARCHIVE = join(work, 'archive')
    const old = await Cluster.create({ postgres: { binaries, settings: Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, value.replace('ARCHIVE', ARCHIVE)])) }, log: join(work, 'old.log') })
    t.teardown(() => old.close())
    await migrate({ url: old.url })
    await old.primary.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)", [], old.database)
    // One password for all servers: the service goes from one to the other.
    await old.primary.query("CREATE ROLE shop LOGIN SUPERUSER PASSWORD 'hush'")
    const address = await startAddress(t as never, old.primary.port)
    const databaseUrl = old.urlAt(address.port).replace(/\/\/[^@]*@/, '//shop:hush@')
    const service = await startApp(t as never, { databaseUrl, connectTo: old.url })
    const follower = await new Follower(t as never, service.url, service.token('alice')).connected()
    const env = { PATH: `${bin}:${process.env.PATH}`, ARCHIVE, ...urlsOf('OLD', old) }
    await restore({ old, password: new URL(old.url).password, env, work, service, follower, lead: address.lead, t })
  } finally {
    for (const end of ends) await end()
  }
}

function binaries (): { initdb: string, postgres: string } {
  return { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') }
}

async function emptyCluster (t: Start['t'], work: string): Promise<Cluster> {
  const cluster = await Cluster.create({ postgres: { binaries }, log: join(work, 'new.log') })
  t.teardown(() => cluster.close())
  await cluster.primary.query("CREATE ROLE shop LOGIN SUPERUSER PASSWORD 'hush'")
  return cluster
}

function urlsOf (name: 'OLD' | 'NEW', cluster: Cluster): Record<string, string> {
  return { [name]: cluster.url, [`${name}_ADMIN`]: cluster.url }
}

/** Runs a block of the page as the account of Postgres. */
function run (name: string, env: Record<string, string>): void {
  const block = blocks.get(name)
  if (block === undefined) throw new Error(`docs/backup-and-restore.md has no block "sh ${name}".`)
  inShell(block, env)
}

function inShell (script: string, env: Record<string, string>): void {
  execFileSync('bash', ['-euo', 'pipefail', '-c', script], { env, ...account, cwd: directory, stdio: ['ignore', 'inherit', 'inherit'] })
}

/** Places an order of alice's, again where the server is not there yet, and waits until the follower was told. */
async function told ({ ask, token }: RunningApp, follower: Follower): Promise<string> {
  const key = randomUUID()
  let id: string | undefined
  await until(async () => {
    const { status, body } = await ask<{ id: string }>('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': key } })
    if (status === 201) id = body.id
    return status === 201
  })
  await follower.has(told => told.some(({ data }) => data.orderId === id))
  return id ?? ''
}

async function isTold (follower: Follower, expected: string[]): Promise<void> {
  const got = follower.told.map(({ event, data }) => event === 'gap' ? event : data.orderId)
  if (JSON.stringify(got) !== JSON.stringify(expected)) throw new Error(`The stream told ${JSON.stringify(got)}, and was to tell ${JSON.stringify(expected)}.`)
  console.log(`The stream told ${got.filter(word => word !== 'gap').length} orders, ${got.includes('gap') ? 'with the gap' : 'without a gap'}.`)
}

async function until (isSo: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 120_000
  while (!await isSo()) {
    if (performance.now() > giveUpAt) throw new Error(`It has not become so: ${String(isSo)}`)
    await delay(50)
  }
}
