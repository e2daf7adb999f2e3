import { setTimeout as delay } from 'node:timers/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import { Counter, Histogram } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import pg from 'pg'
import { PrismaClient, type Prisma } from '#prisma'
import { passwordIn, withPassword } from '../config.ts'
import { Attempt } from '../orders/attempt.ts'
import { failureOf, NotConnected, sqlStateOf } from '../orders/failure.ts'
import { MigrationError } from '../prisma/migration-error.ts'
import { schemaOf } from '../prisma/schema.ts'
import { UtcClient } from '../prisma/utc-client.ts'
import { DatabasePassword } from './database-password.ts'
import { trackTransactions, type Track } from './track-transactions.ts'

export interface DatabaseOptions {
  url: string
  /** Connections, at most. */
  pool: number
  /** How long a request may take, in ms. What it does in the database takes parts of that, so that it can be tried again. */
  requestTimeoutMs: number
  /** Called when the pool is closed: lets go of a database that was started for this app. */
  release?: (() => Promise<void>) | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    prisma: PrismaClient
    database: {
      /** Connections open, idle, and queries that wait for one. */
      readonly pool: { readonly open: number, readonly idle: number, readonly waiting: number }
      /** Times when Postgres stopped waiting for its synchronous standby, and committed all the same. */
      readonly uncertainCommits: number
      /** To be told of a statement that failed: what the pool does differently from then on may help the next attempt. */
      learn (error: unknown): void
      /** Replaces the connections that are not in use: behind a name or a proxy new ones may lead to another server. At most once a second. */
      renew (): void
      /** Process ids of the backends that the pool is connected to. */
      readonly sessions: number[]
      /** Runs a statement that nobody may wait for as long as for others. After `timeoutMs` it is given up, whatever comes of it. */
      execute<Row extends pg.QueryResultRow> (statement: Prisma.Sql, timeoutMs?: number): Promise<pg.QueryResult<Row>>
      /** Runs it in the close, once the pool is closed, while a database that was started for this app is still there. */
      lastly (run: () => Promise<void>): void
    }
  }
}

/** Prisma on a pool of its own. Closes both, once the drain has seen to it that nothing uses them. */
export default fp<DatabaseOptions>(async (app, options) => {
  const { registers } = app.metrics
  const connectionWait = new Histogram({
    name: 'db_client_connection_wait_duration_seconds',
    help: 'Time until a query had a connection of the pool, or was told that there is none',
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
    registers
  })
  // Where there is none, pg looks for one as libpq does.
  const password = passwordIn(options.url) === undefined ? undefined : new DatabasePassword(() => passwordIn(app.settings.databaseUrl() ?? options.url) ?? '')
  const pool = new ServicePool({
    Client: ServiceClient,
    connectionString: password === undefined ? options.url : withPassword(options.url, ''),
    ...password !== undefined && { passwordNow: () => password.next() },
    onPasswordRefused: () => password?.refused() ?? false,
    application_name: 'last-orders',
    max: options.pool,
    keepAlive: true,
    // Waits that end without a doubt come first: for a connection nothing was sent, and for a lock Postgres rolls back.
    connectionTimeoutMillis: options.requestTimeoutMs / 4,
    lock_timeout: Math.ceil(options.requestTimeoutMs / 5),
    // Ends the wait and the connection, never the statement: a cancelled writer is less certain than a slow one. Nothing else
    // bounds a commit that hangs.
    query_timeout: options.requestTimeoutMs * 2 / 3,
    onWaited: ms => connectionWait.observe(ms / 1_000)
  })
  app.metrics.gauge('database_pool_open_connections', 'Connections to Postgres', () => pool.totalCount)
  app.metrics.gauge('database_pool_idle_connections', 'Connections to Postgres that nothing uses', () => pool.idleCount)
  app.metrics.gauge('database_pool_waiting_queries', 'Queries that wait for a connection', () => pool.waitingCount)

  let uncertainCommits = 0
  const uncertain = new Counter({ name: 'database_uncertain_commits_total', help: 'Commits that Postgres would not vouch for', registers })
  pool.on('connect', client => {
    client.on('notice', notice => {
      // "canceling the wait for synchronous replication": the statement resolves, its data may not survive a failover. By code
      // (01000, or 57P01 where the backend is ended too), as the text speaks the server's language; no other warning is expected.
      if (/^(01|57)/.test(notice.code ?? '')) {
        uncertainCommits++
        uncertain.inc()
        app.log.warn({ notice: notice.message }, 'A commit is not vouched for; its outcome counts as unknown.')
      }
    })
  })

  const backends = new Map<pg.PoolClient, number>()
  // pg keeps it on the client, and its types leave it out.
  pool.on('connect', client => { backends.set(client, (client as pg.PoolClient & { processID: number }).processID) })
  pool.on('remove', client => { backends.delete(client) })
  const last: Array<() => Promise<void>> = []

  let prepares = true
  let renewedAt = -Infinity

  // Until Prisma listens, which it does with its first query.
  pool.on('error', () => {})
  // Prisma's own queries name a schema, `public` where they are not told one: it is where Postgres finds the names in ours.
  const schema = await schemaOf(pool, options.url).catch(async (error: unknown) => {
    await pool.end()
    throw MigrationError.from(error, options.url)
  })

  const warn = (error: Error): void => app.log.warn({ err: error }, 'A database connection was lost; the pool opens another.')
  const adapter = new PrismaPg(pool, { schema, disposeExternalPool: true, onPoolError: warn, onConnectionError: warn, statementNameGenerator: query => prepares ? preparedName(query) : '' })

  app.decorate('prisma', clientOf(adapter, (label, work) => app.drain.track(label, work)))
  app.decorate('database', {
    get pool () {
      return { open: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }
    },
    get uncertainCommits () {
      return uncertainCommits
    },
    get sessions () {
      return [...backends.values()]
    },
    async execute<Row extends pg.QueryResultRow> ({ text, values }: Prisma.Sql, timeoutMs?: number) {
      const statement: pg.QueryConfig & { query_timeout?: number } = { text, values, ...timeoutMs !== undefined && { query_timeout: timeoutMs } }
      return await pool.query<Row>(statement)
    },
    lastly (run: () => Promise<void>) {
      last.push(run)
    },
    learn (error: unknown) {
      if (prepares && notPrepared.has(sqlStateOf(error) ?? '')) {
        prepares = false
        app.log.warn('A pooler in front of Postgres keeps no prepared statements (PgBouncer: max_prepared_statements). The service goes on without; it costs time.')
      }
      // Where no connection can be made, those that there are, are all there will be.
      if (failureOf(error) === 'denied' && !(error instanceof NotConnected)) app.database.renew()
    },
    renew () {
      if (performance.now() - renewedAt < renewalMs) return
      renewedAt = performance.now()
      for (let idle = pool.idleCount; idle > 0; idle--) pool.connect().then(client => client.release(true), () => {})
    }
  })

  const closing = new AbortController()
  let lastPassword = password?.next()
  app.settings.onChange(() => {
    const next = password?.next()
    if (next === lastPassword) return
    lastPassword = next
    void retire([...backends.keys()])
  })

  /** Closes these connections one by one, each when nothing uses it: who opened them may be no longer welcome. */
  async function retire (old: pg.PoolClient[]): Promise<void> {
    const left = new Set(old)
    while (left.size > 0 && !closing.signal.aborted) {
      for (const client of left) if (!backends.has(client)) left.delete(client)
      try {
        const client = await pool.connect()
        const isOld = left.delete(client)
        client.release(isOld)
        if (isOld) continue
      } catch {}
      await delay(retireMs, undefined, { ref: false })
    }
    if (!closing.signal.aborted) app.log.info({ connections: old.length }, 'The password of the database is another one. The connections that were opened with the one before were closed.')
  }

  app.addHook('onClose', async app => {
    closing.abort()
    await app.prisma.$disconnect()
    for (const run of last) await run()
    await options.release?.()
  })
}, { name: 'database', fastify: '5.x', dependencies: ['metrics', 'settings'] })

const renewalMs = 1_000

/** Between two looks for a connection that is to be closed, in ms. */
const retireMs = 100

/** SQLSTATEs of a statement that was prepared on another connection, or twice on one. */
const notPrepared = new Set(['26000', '42P05'])

/** Says of a failure that no connection was made: Prisma's adapter would pass on its code, and that comes from statements too. */
class ServiceClient extends UtcClient {
  constructor (config: PasswordSource & pg.ClientConfig = {}) {
    super(config)
    // Postgres may end a connection between the moment in which the pool gives it to a transaction and the moment in which
    // Prisma listens. Without a listener that error ends the process. pg refuses what is sent on the connection afterwards.
    this.on('error', () => {})
    // pg takes a function for it, and forgets that where there is a connection string, whose own password goes before it.
    if (config.passwordNow !== undefined) Object.defineProperty(this, 'password', { value: config.passwordNow, writable: true, enumerable: false, configurable: true })
  }

  override connect (): Promise<pg.Client>
  override connect (callback: (error: Error | null) => void): void
  override connect (callback?: (error: Error | null) => void): Promise<pg.Client> | void {
    if (callback === undefined) return super.connect().catch((error: Error) => { throw new NotConnected(error) })
    super.connect((error: Error | null) => { callback(error && new NotConnected(error)) })
  }
}

interface PasswordSource {
  /** Asked when the database asks. */
  passwordNow?: () => string
}

interface ServicePoolOptions extends pg.PoolConfig, PasswordSource {
  onWaited: (ms: number) => void
  /** @returns whether to try once more */
  onPasswordRefused: () => boolean
}

const passwordRefused = '28P01'

type Acquired = Parameters<Parameters<pg.Pool['connect']>[0]>

/** Tells an attempt that waits for a connection when there is one; one that was given up until then is not sent. */
class ServicePool extends pg.Pool {
  readonly #options: Pick<ServicePoolOptions, 'onWaited' | 'onPasswordRefused'>

  constructor ({ onWaited, onPasswordRefused, ...config }: ServicePoolOptions) {
    super(config)
    this.#options = { onWaited, onPasswordRefused }
  }

  override connect (): Promise<pg.PoolClient>
  override connect (callback: (...acquired: Acquired) => void): void
  override connect (callback?: (...acquired: Acquired) => void): Promise<pg.PoolClient> | void {
    if (callback === undefined) return new Promise((resolve, reject) => this.#connect((error, client) => client === undefined ? reject(error) : resolve(client)))
    const attempt = Attempt.current()
    attempt?.wait()
    const since = performance.now()
    this.#connect((error, client, release) => {
      this.#options.onWaited(performance.now() - since)
      if (attempt?.send() !== false) return callback(error, client, release)
      if (client !== undefined) release()
      callback(error ?? new NotConnected(new Error('It was given up before there was a connection.')), undefined, () => {})
    })
  }

  /** Where the database refuses the password, once more with the other one. */
  #connect (callback: (...acquired: Acquired) => void): void {
    super.connect((error, client, release) => {
      if (sqlStateOf(error) === passwordRefused && this.#options.onPasswordRefused()) super.connect(callback)
      else callback(error, client, release)
    })
  }
}

/**
 * The calls of our own functions are prepared once for each connection, by the function's name. Nothing else is: a plan that
 * was made for an empty table would be kept as it grows. Behind PgBouncer in transaction mode this takes its
 * `max_prepared_statements` (1.21).
 *
 * So no SQL comment may say of a statement which trace it is of (@prisma/sqlcommenter-trace-context, or pg's own
 * instrumentation): pg refuses one name with two texts ("Prepared statements must be unique", node-postgres#2735), and each
 * refusal would count as an unknown outcome. Spans of statements are made in tracing/statement-spans.ts.
 */
function preparedName ({ sql }: { sql: string }): string {
  return /^\s*SELECT (?:\* FROM )?(place_orders|move_order|begin_payment|settle_payment)\(/.exec(sql)?.[1] ?? ''
}

/** The extension changes what `$transaction` does and nothing of its type, which Prisma cannot know. */
function clientOf (adapter: PrismaPg, track: Track): PrismaClient {
  return new PrismaClient({ adapter }).$extends(trackTransactions(track)) as unknown as PrismaClient
}
