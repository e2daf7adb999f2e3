import {
  chmodSync, chownSync, closeSync, fsyncSync, lstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync,
  renameSync, rmSync, statSync, type Stats
} from 'node:fs'
import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { accountForRoot, accountThatReaches, ownAccount, type Account } from './account.ts'
import { findBinaries } from './binaries.ts'
import { EmbeddedPostgresError } from './error.ts'

/** Where one embedded server keeps its things. */
export interface Place {
  directory: string
  /** The cluster: what Postgres calls its data directory. */
  data: string
  log: string
  /** The folder of the Unix socket. */
  socket: string
}

/** A Postgres that was told to start: it may not be ready, and may yet fail. */
export interface Starting {
  pid: number | undefined
  /** The end of its log where it has ended; undefined while it runs. */
  failure (): string | undefined
}

/** The port is part of a Unix socket's file name and of nothing else: no two servers can collide by it. */
export const PORT = 5432

/** A fast shutdown ends sessions at once and then writes a checkpoint, which a busy disk can draw out. */
const STOP_TIMEOUT_MS = 60_000

export function placeOf (directory: string): Place {
  return {
    directory,
    data: join(directory, 'data'),
    log: join(directory, 'postgres.log'),
    socket: socketFolder(directory)
  }
}

/**
 * Starts Postgres in a session of its own, so that neither Ctrl-C nor the closing of a terminal reaches it, with its
 * data folder created where there is none. Returns once the process runs, not once it answers. A second server on the
 * same data ends by itself: Postgres' own lock file sees to it.
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
    '-p', String(PORT),
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
 * Ends every session and stops the server; resolves once it is down.
 *
 * @throws EmbeddedPostgresError 'stop-failed'
 */
export async function stopServer (place: Place): Promise<void> {
  const pid = pidIn(lockFile(place))
  if (pid === undefined || !signal(pid, 'SIGINT')) return
  const deadline = Date.now() + STOP_TIMEOUT_MS
  // The lock file is the last thing that Postgres removes.
  while (pidIn(lockFile(place)) === pid && isServer(place, pid)) {
    if (Date.now() > deadline) {
      throw new EmbeddedPostgresError('stop-failed',
        `The embedded Postgres (pid ${pid}) did not stop within ${STOP_TIMEOUT_MS / 1000} s. Nothing that was ` +
        `committed is lost. See ${place.log}; \`kill -INT ${pid}\` asks again.`)
    }
    await delay(10)
  }
}

/** Whether a server has these data, also one that does not listen yet, or no longer. */
export function isHeld (place: Place): boolean {
  const pid = pidIn(lockFile(place))
  return pid !== undefined && isServer(place, pid)
}

/**
 * Removes the lock files of a server that was killed, where the process whose number they hold still exists and yet is
 * no server: a zombie that nobody reaps, as in a container without an init, or one that got the number later. Postgres
 * sees only that the number is in use, and would refuse to start for as long as it is.
 */
export function removeStaleLocks (place: Place): void {
  for (const file of [lockFile(place), join(place.socket, `.s.PGSQL.${PORT}.lock`)]) {
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
    // Both are the defaults, written down because promises rest on them.
    fsync: 'on',
    synchronous_commit: 'on',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_checkpoints: 'off',
    cluster_name: 'last-orders'
  }
}

async function accountFor (place: Place, program: string): Promise<Account> {
  if (process.getuid?.() !== 0) return ownAccount()
  const plain = await accountForRoot(place.data)
  if (plain.owner !== undefined) chownSync(place.directory, plain.owner.uid, plain.owner.gid)
  return await accountThatReaches(plain, place.directory, program)
}

function makeFolder (directory: string): void {
  try {
    // Without a mode: `recursive` would give it to every parent too, and close them to others.
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
 * initdb works in a folder of its own, and a rename makes it the data folder: an interruption at any moment leaves
 * either nothing or all of it, and of two that begin at once the second finds the first's.
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
      // Who may enter the socket's folder is who may connect: there is no password to keep or to print.
      '--auth-local=trust', '--auth-host=reject',
      // Postgres' own locale: sorts the same on every machine, and never changes with the system's libraries.
      '--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'
    ])
    if (code !== 0) throw new Error(output.trim().split('\n').slice(-6).join('\n'))
    renameSync(fresh, place.data)
    fresh = undefined
    syncFolder(place.directory)
  } catch (cause) {
    if (isFolder(place.data)) return
    throw new EmbeddedPostgresError('init-failed',
      `A data folder for the embedded Postgres could not be made in ${place.directory}:\n${(cause as Error).message}\n` +
      'Nothing was kept and Postgres was not started. Start again once the cause is gone (is the disk full?), or set ' +
      'DATABASE_URL to a Postgres of your own.', { cause })
  } finally {
    if (fresh !== undefined) rmSync(fresh, { recursive: true, force: true })
  }
}

/** Removes what an initdb left whose program was killed; one that still runs is another's first start. */
function removeAbandoned (place: Place): void {
  const prefix = `${basename(place.data)}.new-`
  for (const name of readdirSync(place.directory)) {
    const pid = Number(name.slice(prefix.length).split('-')[0])
    if (!name.startsWith(prefix) || signal(pid, 0)) continue
    try {
      rmSync(join(place.directory, name), { recursive: true, force: true })
    } catch {
      // An initdb that outlived its program still works there; a later start removes it.
    }
  }
}

/**
 * A socket's path must fit in 104 bytes on macOS and 108 on Linux, and in a comma-separated setting: a deep or oddly
 * named clone has its socket under /tmp. Not os.tmpdir(): every process must find the same folder, whatever its
 * environment.
 */
function socketFolder (directory: string): string {
  const near = join(directory, 'socket')
  if (Buffer.byteLength(join(near, `.s.PGSQL.${PORT}.lock`)) < 104 && /^[\w./-]+$/.test(near)) return near
  return `/tmp/last-orders-${createHash('sha256').update(directory).digest('hex').slice(0, 16)}`
}

function makeSocketFolder (place: Place, account: Account): void {
  // With the capability the account needs no right of its own here, and nobody else of that account may connect.
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
  // Root sets the owner; an ordinary user must not trust a folder that someone else laid under a name in /tmp.
  const trusted = process.getuid?.() === 0 || found.uid === process.getuid?.()
  if (!found.isDirectory() || !trusted || (found.mode & 0o077) !== 0) {
    throw unusable(place.socket, new Error('it is not a folder that this account alone can enter'))
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

/** Whether that process may be a server on these data, as far as this system tells: only Linux tells more than that it is. */
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

/** Whether there was such a process to take the signal. */
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
