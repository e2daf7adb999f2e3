import { mkdirSync, realpathSync } from 'node:fs'
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { EmbeddedPostgresError } from './error.ts'
import { isPassing, postmasterOf, removeStaleLocks, type Postmaster } from './postmaster.ts'
import { placeOf, postgresPort, socketLockOf, startServer, stopServer, type Place } from './server.ts'

export { EmbeddedPostgresError } from './error.ts'

export interface EmbeddedPostgres {
  /** For pg and Prisma. It holds no secret: whoever may enter the socket's folder may connect. */
  url: string
  /**
   * Ends this use; the last user stops the server. Call it after your own connections are closed. A second call is harmless.
   *
   * @throws EmbeddedPostgresError 'stop-failed'
   */
  release (): Promise<void>
}

/** Recovery after a crash replays at most what lies between two checkpoints: some seconds, or a minute on a slow disk. */
const startTimeoutMs = 120_000

/** How long a user whose session broke waits before it reconnects. */
const reconnectMs = 250

const databaseName = 'last_orders'

/** Advisory locks are per database, and this one is in `postgres`: it cannot collide with the service's locks. */
const usersLock = 5_201_314

/**
 * Starts PostgreSQL from the npm package's binaries, or joins the server that already runs there, and keeps it running until
 * `release()`. Everything lies under `directory`: the data, the log and the socket.
 *
 * It listens only on a Unix socket, in a folder that only this account can enter. So no other program or clone can hold its
 * port, it needs no password, and its URL is the same at every start.
 *
 * Each user holds a session with a shared advisory lock. A user that releases tries for the exclusive lock, and gets it if it is
 * the last one. The session of a killed user ends with it, but nobody stops the server then: it stays for the next start.
 *
 * @throws EmbeddedPostgresError
 */
export async function startEmbeddedPostgres (
  { directory, log = () => {} }: { directory: string, log?: (line: string) => void }
): Promise<EmbeddedPostgres> {
  const place = placeOf(realFolder(directory))
  const releasing = new AbortController()
  let session: pg.Client
  let regaining = Promise.resolve()
  let released: Promise<void> | undefined

  // A crash of Postgres ends the session, and so releases the lock that keeps others from stopping the server.
  function keep (client: pg.Client): void {
    session = client
    client.once('end', () => { regaining = regain().then(keep, () => {}) })
  }

  async function regain (): Promise<pg.Client> {
    for (;;) {
      await delay(reconnectMs, undefined, { ref: false, signal: releasing.signal })
      const client = await join(place).catch(() => undefined)
      if (client !== undefined) return client
    }
  }

  async function endUse (): Promise<void> {
    releasing.abort()
    await regaining
    await leave(session)
    const last = await connect(place).catch(() => undefined)
    if (last === undefined) return
    // Holds the lock until the server is down: a user that joins meanwhile waits for it, sees the end, and starts a new server.
    if (await isAlone(last)) {
      await stopServer(place)
      log('Postgres stopped')
    }
    await leave(last)
  }

  keep(await joinOrStart(place, log))
  return {
    url: urlOf(place, databaseName),
    release: () => (released ??= endUse())
  }
}

async function joinOrStart (place: Place, log: (line: string) => void): Promise<pg.Client> {
  const deadline = Date.now() + startTimeoutMs
  let starting: Postmaster | undefined
  for (let pauseMs = 10; ; pauseMs = Math.min(pauseMs * 1.5, 250)) {
    try {
      const client = await join(place)
      if (starting !== undefined && starting.failure() === undefined) log(`Postgres runs, pid ${starting.process.pid}`)
      return client
    } catch (error) {
      if (!isAbsent(error) && !isChanging(error)) throw startFailed(place, (error as Error).message)
      const failure = starting?.failure()
      if (failure !== undefined && !isPassing(failure)) throw startFailed(place, failure)
      if (Date.now() > deadline) throw startFailed(place, failure ?? 'It does not answer.')
      if (isAbsent(error) && (starting === undefined || (failure !== undefined && postmasterOf(place.data) === undefined))) {
        if (failure !== undefined) removeStaleLocks(place.data, socketLockOf(place))
        starting = await startServer(place, log)
      }
    }
    await delay(pauseMs)
  }
}

/** A session that holds the users' lock, in a server that has the database. */
async function join (place: Place): Promise<pg.Client> {
  const client = await connect(place)
  try {
    await client.query('SELECT pg_advisory_lock_shared($1)', [usersLock])
    // The user that stops the server holds the lock until its session ends, and the server may end that session before this
    // one. But a server that is stopping accepts no new connection: this one proves that it is not.
    await leave(await connect(place))
    const { rowCount } = await client.query('SELECT FROM pg_database WHERE datname = $1', [databaseName])
    if (rowCount === 0) await createDatabase(client)
    return client
  } catch (error) {
    await leave(client)
    throw error
  }
}

/** Takes the lock that excludes all users, if there are none. */
async function isAlone (client: pg.Client): Promise<boolean> {
  try {
    const { rows } = await client.query<{ alone: boolean }>('SELECT pg_try_advisory_lock($1) AS alone', [usersLock])
    return rows[0]?.alone === true
  } catch (error) {
    // Another user released at the same time and stops the server.
    if (isChanging(error)) return false
    throw error
  }
}

async function connect (place: Place): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: urlOf(place, 'postgres'), application_name: `user ${process.pid}` })
  // Each call reports its own failure; 'end' reports the end of an idle session.
  client.on('error', () => {})
  await client.connect()
  return client
}

async function leave (client: pg.Client): Promise<void> {
  await client.end().catch(() => {})
}

async function createDatabase (client: pg.Client): Promise<void> {
  try {
    await client.query(`CREATE DATABASE ${databaseName}`)
  } catch (error) {
    // Another first start was faster: 42P04 if the database was visible, 23505 if only the unique index saw it.
    if (!['42P04', '23505'].includes(codeOf(error))) throw error
  }
}

function urlOf (place: Place, database: string): string {
  // Names the default port, so that PGPORT in the environment does not change it.
  const host = encodeURIComponent(place.socket).replaceAll('%2F', '/')
  return `postgresql://postgres@localhost:${postgresPort}/${database}?host=${host}`
}

/** No server answers on the socket. If the socket belongs to another account, the error of a start says it better. */
function isAbsent (error: unknown): boolean {
  return ['ENOENT', 'ECONNREFUSED', 'EACCES'].includes(codeOf(error))
}

/** The server starts, stops or was just killed: it says so, or its connections break. */
function isChanging (error: unknown): boolean {
  return ['57P01', '57P02', '57P03', 'ECONNRESET', 'EPIPE'].includes(codeOf(error)) ||
    (error instanceof Error && /^Connection terminated|not queryable/.test(error.message))
}

function startFailed (place: Place, reason: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError('start-failed',
    `The embedded Postgres in ${place.directory} does not start:\n${reason}\n` +
    `Its data are as they were. ${place.log} has details. Remove the cause and start again, or set DATABASE_URL to a Postgres ` +
    'of your own.')
}

/** The canonical name of the folder, so that all users of it find the same socket. */
function realFolder (directory: string): string {
  const path = resolve(directory)
  try {
    mkdirSync(path, { recursive: true })
    return realpathSync(path)
  } catch (cause) {
    throw new EmbeddedPostgresError('data-folder',
      `The folder of the embedded Postgres, ${path}, cannot be made (${(cause as Error).message}). Postgres was not ` +
      'started. Give this account that folder, or set DATABASE_URL to a Postgres of your own.', { cause })
  }
}

function codeOf (error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
