import { chownSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { freePort } from '../verify/free-port.ts'
import { missing, Program } from '../verify/program.ts'

interface Test {
  teardown (end: () => Promise<void>): unknown
}

/** Why PgBouncer does not run on this machine; false if it does. */
export const pgbouncerMissing = missing('pgbouncer', '-V') ?? false

/**
 * Starts a PgBouncer in transaction mode in front of a test's database.
 *
 * @returns the database's URL there
 */
export async function startPgBouncer (t: Test, databaseUrl: string, { poolSize = 5 } = {}): Promise<{ url: string }> {
  const database = new URL(databaseUrl)
  const socket = database.searchParams.get('host')
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'last-orders-pgbouncer-'))
  const settings = join(directory, 'pgbouncer.ini')
  writeFileSync(settings, `[databases]
* = host=${socket ?? database.hostname} port=${database.port || '5432'} user=${database.username}${database.password === '' ? '' : ` password=${database.password}`}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
server_login_retry = 1
ignore_startup_parameters = lock_timeout
`)
  // PgBouncer refuses to run as root. The account that owns the socket's folder may enter it.
  const asRoot = process.getuid?.() === 0
  const { uid, gid } = socket === null ? { uid: 65_534, gid: 65_534 } : statSync(socket)
  if (asRoot) for (const path of [directory, settings]) chownSync(path, uid, gid)
  const pgbouncer = await Program.start({
    command: 'pgbouncer',
    args: [settings],
    log: join(directory, 'log'),
    ...asRoot && { owner: { uid, gid } }
  })
  t.teardown(async () => {
    await pgbouncer.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const url = `postgresql://${database.username}@127.0.0.1:${port}${database.pathname}`
  await pgbouncer.until('answer', async () => {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    return await client.connect().then(async () => { await client.end(); return true }, () => false)
  })
  return { url }
}
