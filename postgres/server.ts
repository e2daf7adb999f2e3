import {
  chmodSync, chownSync, closeSync, fsyncSync, lstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync,
  renameSync, rmSync, statSync, type Stats
} from 'node:fs'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { accountFor, type Account } from './account.ts'
import { findBinaries } from './binaries.ts'
import { EmbeddedPostgresError } from './error.ts'

/** The files of one embedded server. */
export interface Place {
  directory: string
  /** The cluster: what Postgres calls its data directory. */
  data: string
  log: string
  /** The folder of the Unix socket. */
  socket: string
}

/** A Postgres that was started: it may not be ready, and may still fail. */
export interface Starting {
  pid: number | undefined
  /** The end of its log if it has ended; undefined while it runs. */
  failure (): string | undefined
}

/** The port is only a part of the socket's file name: no two servers can collide on it. */
export const postgresPort = 5432

/** A fast shutdown ends sessions at once, but then writes a checkpoint, which can take long on a busy disk. */
const stopTimeoutMs = 60_000

export function placeOf (directory: string): Place {
  return {
    directory,
    data: join(directory, 'data'),
    log: join(directory, 'postgres.log'),
    socket: socketFolder(directory)
  }
}

/**
 * Starts Postgres in a session of its own, which neither Ctrl-C nor a closed terminal reaches. Creates the data folder if it
 * does not exist. Returns once the process runs, which is before it answers. A second server on the same data ends by itself,
 * because of Postgres' own lock file.
 *
 * @throws EmbeddedPostgresError
 */
export async function startServer (place: Place, log: (line: string) => void): Promise<Starting> {
  const binaries = findBinaries()
  makeFolder(place.directory)
  const account = await accountFor(place, binaries.postgres)
  removeAbandoned(place)
  if (!isFolder(place.data)) await createCluster(place, account, binaries.initdb, log)
  makeSocketFolder(place, account)

  const output = openLog(place, account)
  const logStart = output.size
  const child = account.start(binaries.postgres, [
    '-D', place.data,
    '-p', String(postgresPort),
    ...Object.entries(settings(place)).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  ], { stdio: ['ignore', output.fd, output.fd], detached: true })
  closeSync(output.fd)

  let failure: string | undefined
  child.once('error', error => { failure = error.message })
  child.once('exit', (code, signal) => {
    failure = tail(place.log, logStart) || `it ended with ${signal ?? `code ${code}`} and wrote nothing`
  })
  child.unref()
  return { pid: child.pid, failure: () => failure }
}

/**
 * Ends every session and stops the server. Resolves once it is down.
 *
 * @throws EmbeddedPostgresError 'stop-failed'
 */
export async function stopServer (place: Place): Promise<void> {
  const pid = pidIn(lockFile(place))
  if (pid === undefined || !signal(pid, 'SIGINT')) return
  const deadline = Date.now() + stopTimeoutMs
  // Postgres removes the lock file last.
  while (pidIn(lockFile(place)) === pid && isServer(place, pid)) {
    if (Date.now() > deadline) {
      throw new EmbeddedPostgresError('stop-failed',
        `The embedded Postgres (pid ${pid}) did not stop within ${stopTimeoutMs / 1000} s. Nothing that was ` +
        `committed is lost. Look at ${place.log}, and repeat the signal with \`kill -INT ${pid}\`.`)
    }
    await delay(10)
  }
}

/** Whether a server has these data, including one that does not listen yet or any more. */
export function isHeld (place: Place): boolean {
  const pid = pidIn(lockFile(place))
  return pid !== undefined && isServer(place, pid)
}

/**
 * Removes the lock files of a killed server if another process has its number now: a later process, or a zombie that nobody
 * reaps, as in a container without an init. Postgres sees only that the number is in use, and would refuse to start.
 */
export function removeStaleLocks (place: Place): void {
  for (const file of [lockFile(place), join(place.socket, `.s.PGSQL.${postgresPort}.lock`)]) {
    const pid = pidIn(file)
    if (pid !== undefined && !isServer(place, pid)) rmSync(file, { force: true })
  }
}

function settings (place: Place): Record<string, string> {
  return {
    listen_addresses: '',
    unix_socket_directories: place.socket,
    unix_socket_permissions: '0700',
    max_connections: '200',
    shared_buffers: '128MB',
    // Both are the defaults, named here because the service's promises rely on them.
    fsync: 'on',
    synchronous_commit: 'on',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_checkpoints: 'off',
    cluster_name: 'last-orders'
  }
}

function makeFolder (directory: string): void {
  try {
    // Without a mode: `recursive` would give it to every parent, too, and lock others out.
    mkdirSync(directory, { recursive: true })
    chmodSync(directory, 0o700)
    readdirSync(directory)
  } catch (cause) {
    throw new EmbeddedPostgresError('data-folder',
      `The folder of the embedded Postgres, ${directory}, cannot be made or written (${(cause as Error).message}). ` +
      'Postgres was not started. Give this account that folder (is it another account\'s, or the disk read-only or ' +
      'full?), or set DATABASE_URL to a Postgres of your own.', { cause })
  }
}

/**
 * initdb works in a folder of its own, and a rename makes it the data folder. So an interruption leaves all of it or nothing,
 * and of two concurrent starts the slower one finds the folder of the faster one.
 */
async function createCluster (place: Place, account: Account, initdb: string, log: (line: string) => void): Promise<void> {
  log(`creating a Postgres data folder in ${place.data}`)
  let fresh: string | undefined
  try {
    fresh = mkdtempSync(`${place.data}.new-${process.pid}-`)
    if (account.owner !== undefined) chownSync(fresh, account.owner.uid, account.owner.gid)
    const { code, output } = await account.run(initdb, [
      '-D', fresh,
      '-U', 'postgres',
      // Whoever may enter the socket's folder may connect: there is no password to keep or to print.
      '--auth-local=trust', '--auth-host=reject',
      // Postgres' own locale: it sorts the same on every machine, and never changes with the system's libraries.
      '--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'
    ])
    if (code !== 0) throw new Error(output.trim().split('\n').slice(-6).join('\n'))
    renameSync(fresh, place.data)
    fresh = undefined
    syncFolder(place.directory)
  } catch (cause) {
    if (isFolder(place.data)) return
    throw new EmbeddedPostgresError('init-failed',
      `A data folder for the embedded Postgres could not be created in ${place.directory}:\n${(cause as Error).message}\n` +
      'Nothing was kept, and Postgres was not started. Remove the cause (is the disk full?) and start again, or set ' +
      'DATABASE_URL to a Postgres of your own.', { cause })
  } finally {
    if (fresh !== undefined) rmSync(fresh, { recursive: true, force: true })
  }
}

/** Removes the folders of killed first starts. A folder whose process lives belongs to a first start under way. */
function removeAbandoned (place: Place): void {
  const prefix = `${basename(place.data)}.new-`
  for (const name of readdirSync(place.directory)) {
    const pid = Number(name.slice(prefix.length).split('-')[0])
    if (!name.startsWith(prefix) || signal(pid, 0)) continue
    try {
      rmSync(join(place.directory, name), { recursive: true, force: true })
    } catch {
      // An initdb that outlived its program still works there. A later start removes the folder.
    }
  }
}

/**
 * A socket's path must fit in 104 bytes on macOS and 108 on Linux, and in a comma-separated setting. So a deep or oddly named
 * clone has its socket under /tmp. os.tmpdir() would not do: every process must find the same folder, whatever its environment.
 */
function socketFolder (directory: string): string {
  const near = join(directory, 'socket')
  if (Buffer.byteLength(join(near, `.s.PGSQL.${postgresPort}.lock`)) < 104 && /^[\w./-]+$/.test(near)) return near
  return `/tmp/last-orders-${createHash('sha256').update(directory).digest('hex').slice(0, 16)}`
}

function makeSocketFolder (place: Place, account: Account): void {
  // With the capability the account needs no rights here, and other processes of the account must not connect.
  const owner = account.privileged ? undefined : account.owner
  let found: Stats
  try {
    mkdirSync(place.socket, { mode: 0o700 })
    if (owner !== undefined) chownSync(place.socket, owner.uid, owner.gid)
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause && cause.code === 'EEXIST')) throw unusable(place.socket, cause)
  }
  try {
    found = lstatSync(place.socket)
    if (found.isDirectory() && process.getuid?.() === 0) chownSync(place.socket, owner?.uid ?? 0, owner?.gid ?? 0)
  } catch (cause) {
    throw unusable(place.socket, cause)
  }
  // Root sets the owner. An ordinary user must not trust a folder in /tmp that someone else created.
  const trusted = process.getuid?.() === 0 || found.uid === process.getuid?.()
  if (!found.isDirectory() || !trusted || (found.mode & 0o077) !== 0) {
    throw unusable(place.socket, new Error('it is not a folder that only this account can enter'))
  }
}

function unusable (socket: string, cause: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError('socket-folder',
    `The folder of the embedded Postgres' socket, ${socket}, cannot be used (${(cause as Error).message}). Postgres ` +
    'was not started. Remove that folder, or set DATABASE_URL to a Postgres of your own.', { cause })
}

function openLog (place: Place, account: Account): { fd: number, size: number } {
  const fd = openSync(place.log, 'a', 0o600)
  if (account.owner !== undefined) chownSync(place.log, account.owner.uid, account.owner.gid)
  return { fd, size: statSync(place.log).size }
}

function tail (log: string, start: number): string {
  try {
    return readFileSync(log).subarray(start).toString().trim().split('\n').slice(-8).join('\n')
  } catch {
    return ''
  }
}

function lockFile (place: Place): string {
  return join(place.data, 'postmaster.pid')
}

function pidIn (file: string): number | undefined {
  try {
    const pid = parseInt(readFileSync(file, 'utf8'))
    return Number.isNaN(pid) ? undefined : pid
  } catch {
    return undefined
  }
}

/** Whether that process may be a server on these data. Only Linux tells more than that the process exists. */
function isServer (place: Place, pid: number): boolean {
  if (!signal(pid, 0)) return false
  if (process.platform !== 'linux') return true
  try {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.[0]
    if (state === 'Z') return false
    const folder = statSync(`/proc/${pid}/cwd`)
    const data = statSync(place.data)
    return folder.dev === data.dev && folder.ino === data.ino
  } catch {
    return true
  }
}

/** Whether the process existed. */
function signal (pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

function isFolder (path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

function syncFolder (path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
