import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, type Stats } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { accountFor, type Account, type Programs } from './account.ts'
import { findBinaries } from './binaries.ts'
import { createDataFolder, removeAbandoned } from './data-folder.ts'
import { EmbeddedPostgresError } from './error.ts'
import { durability, postmasterOf, signalProcess, startPostmaster, type Postmaster } from './postmaster.ts'

/** The files of one embedded server. */
export interface Place {
  directory: string
  /** The cluster: what Postgres calls its data directory. */
  data: string
  log: string
  /** The folder of the Unix socket. */
  socket: string
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

export function socketLockOf (place: Place): string {
  return join(place.socket, `.s.PGSQL.${postgresPort}.lock`)
}

/**
 * Creates the data folder if it does not exist, and starts Postgres. Returns once the process runs, which is before it answers.
 *
 * @throws EmbeddedPostgresError
 */
export async function startServer (place: Place, log: (line: string) => void): Promise<Postmaster> {
  const binaries = findBinaries()
  makeFolder(place.directory)
  const account = await accountFor(place, binaries.postgres)
  const programs = { ...binaries, account }
  removeAbandoned(place.data)
  if (!existsSync(place.data)) await createData(place, programs, log)
  makeSocketFolder(place, account)

  const postmaster = startPostmaster({
    programs,
    data: place.data,
    log: place.log,
    args: ['-p', String(postgresPort), ...Object.entries(settings(place)).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
  })
  if (account.owner !== undefined) chownSync(place.log, account.owner.uid, account.owner.gid)
  postmaster.process.unref()
  return postmaster
}

/**
 * Ends every session and stops the server. Resolves once it is down.
 *
 * @throws EmbeddedPostgresError 'stop-failed'
 */
export async function stopServer (place: Place): Promise<void> {
  const pid = postmasterOf(place.data)
  if (pid === undefined || !signalProcess(pid, 'SIGINT')) return
  const deadline = Date.now() + stopTimeoutMs
  while (postmasterOf(place.data) === pid) {
    if (Date.now() > deadline) {
      throw new EmbeddedPostgresError('stop-failed',
        `The embedded Postgres (pid ${pid}) did not stop within ${stopTimeoutMs / 1000} s. Nothing that was ` +
        `committed is lost. Look at ${place.log}, and repeat the signal with \`kill -INT ${pid}\`.`)
    }
    await delay(10)
  }
}

function settings (place: Place): Record<string, string> {
  return {
    listen_addresses: '',
    unix_socket_directories: place.socket,
    unix_socket_permissions: '0700',
    max_connections: '200',
    shared_buffers: '128MB',
    ...durability,
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

async function createData (place: Place, programs: Programs, log: (line: string) => void): Promise<void> {
  log(`creating a Postgres data folder in ${place.data}`)
  try {
    await createDataFolder(programs, place.data, [
      // Whoever may enter the socket's folder may connect: there is no password to keep or to print.
      '--auth-local=trust', '--auth-host=reject',
      // Postgres' own locale: it sorts the same on every machine, and never changes with the system's libraries.
      '--locale-provider=builtin', '--builtin-locale=C.UTF-8'
    ])
  } catch (cause) {
    throw new EmbeddedPostgresError('init-failed',
      `A data folder for the embedded Postgres could not be created in ${place.directory}:\n${(cause as Error).message}\n` +
      'Nothing was kept, and Postgres was not started. Remove the cause (is the disk full?) and start again, or set ' +
      'DATABASE_URL to a Postgres of your own.', { cause })
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
