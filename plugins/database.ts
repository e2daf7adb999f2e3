import { setTimeout as delay } from 'node:timers/promises'
import { PrismaPg } from '@prisma/adapter-pg'
import { Counter, Histogram } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import pg from 'pg'
import { PrismaClient, type Prisma } from '#prisma'
import { Attempt } from '../commit/attempt.ts'
import { failureOf, NotConnected, sqlStateOf } from '../commit/failure.ts'
import { passwordIn, withPassword } from '../config.ts'
import { DatabaseFunctions } from '../prisma/database-functions.ts'
import { MigrationError } from '../prisma/migration-error.ts'
import { schemaOf } from '../prisma/schema.ts'
import { UtcClient } from '../prisma/utc-client.ts'
import { DatabasePassword } from './database-password.ts'
import { trackTransactions, type Track } from './track-transactions.ts'

export interface DatabaseOptions {
  url: string
  /** Connections, at most. */
  pool: number
  /** How long a request may take, in ms. Each wait in the database gets a part of it, which leaves time for a retry. */
  requestTimeoutMs: number
  /** Called once the pool is closed: releases a database that was started for this app. */
  release?: (() => Promise<void>) | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    prisma: PrismaClient
    database: {
      /** Open connections, idle ones, and queries that wait for one. */
      readonly pool: { readonly open: number, readonly idle: number, readonly waiting: number }
      /** The functions of the database that write. */
      readonly functions: DatabaseFunctions
      /** Call it with the error of a failed statement: the pool may adapt, so that the next attempt succeeds. */
      learn (error: unknown): void
      /** Replaces idle connections: behind a host name or a proxy, new ones may reach another server. At most once a second. */
      renew (): void
      /** Process ids of the pool's backends. */
      readonly sessions: number[]
      /** Runs a statement with a shorter timeout. After `timeoutMs` the wait ends; the statement may still take effect. */
      execute<Row extends pg.QueryResultRow> (statement: Prisma.Sql, timeoutMs?: number): Promise<pg.QueryResult<Row>>
      /** Runs it during the close: after the pool is closed, before a database that was started for this app is released. */
      lastly (run: () => Promise<void>): void
    }
  }
}

/** Prisma on a pool of its own. Closes both, after the drain has waited for everything that uses them. */
export default fp<DatabaseOptions>(async (app, options) => {
  const { registers } = app.metrics
  const connectionWait = new Histogram({
    name: 'db_client_connection_wait_duration_seconds',
    help: 'Time until a query got a connection of the pool, or failed to get one',
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
    registers
  })
  // If the URL has no password, pg looks for one as libpq does.
  const password = passwordIn(options.url) === undefined ? undefined : new DatabasePassword(() => passwordIn(app.settings.databaseUrl() ?? options.url) ?? '')
  const pool = new ServicePool({
    Client: ServiceClient,
    connectionString: password === undefined ? options.url : withPassword(options.url, ''),
    ...password !== undefined && { passwordNow: () => password.next() },
    onPasswordRefused: () => password?.refused() ?? false,
    application_name: 'last-orders',
    max: options.pool,
    keepAlive: true,
    // Waits with a certain outcome end first: without a connection nothing was sent, and after lock_timeout Postgres rolls back.
    connectionTimeoutMillis: options.requestTimeoutMs / 4,
    lock_timeout: Math.ceil(options.requestTimeoutMs / 5),
    // Ends the wait and the connection, but lets the statement run: a cancelled write is less certain than a slow one. Nothing
    // else bounds a commit that hangs.
    query_timeout: options.requestTimeoutMs * 2 / 3,
    onWaited: ms => connectionWait.observe(ms / 1_000)
  })
  app.metrics.gauge('database_pool_open_connections', 'Connections to Postgres', () => pool.totalCount)
  app.metrics.gauge('database_pool_idle_connections', 'Connections to Postgres that nothing uses', () => pool.idleCount)
  app.metrics.gauge('database_pool_waiting_queries', 'Queries that wait for a connection', () => pool.waitingCount)

  let uncertainCommits = 0
  const uncertain = new Counter({ name: 'database_uncertain_commits_total', help: 'Commits that may not survive a failover: Postgres did not wait for its synchronous standby', registers })
  pool.on('connect', client => {
    client.on('notice', notice => {
      // "canceling the wait for synchronous replication": the statement succeeds, but its data may not survive a failover. This
      // tests the code (01000, or 57P01 if the backend ends too), because the text is in the server's language.
      if (/^(01|57)/.test(notice.code ?? '')) {
        uncertainCommits++
        uncertain.inc()
        app.log.warn({ notice: notice.message }, 'A commit may not survive a failover. Its outcome counts as unknown.')
      }
    })
  })

  const backends = new Map<pg.PoolClient, number>()
  // pg's types leave out processID.
  pool.on('connect', client => { backends.set(client, (client as pg.PoolClient & { processID: number }).processID) })
  pool.on('remove', client => { backends.delete(client) })
  const last: Array<() => Promise<void>> = []

  let prepares = true
  /**
   * The names of statements that each connection prepares once, by their text: Prisma's adapter is given nothing else. Behind PgBouncer
   * in transaction mode this needs its `max_prepared_statements` (1.21). Other statements are not prepared: Postgres would keep a plan
   * that it made for an empty table as the table grows.
   *
   * So no SQL comment may carry the trace of a statement (@prisma/sqlcommenter-trace-context, or pg's own instrumentation): pg
   * refuses one name with two texts ("Prepared statements must be unique", node-postgres#2735), and each refusal would count as
   * an unknown outcome. tracing/statement-spans.ts makes the spans of statements.
   */
  const prepared = new Map<string, string>()
  let renewedAt = -Infinity

  // Prisma listens only from its first query on; an error without a listener ends the process.
  pool.on('error', () => {})
  // Prisma's queries name a schema, by default `public`. Ours name none, so Prisma is told the one that Postgres finds first.
  const schema = await schemaOf(pool, options.url).catch(async (error: unknown) => {
    await pool.end()
    throw MigrationError.from(error, options.url)
  })

  const warn = (error: Error): void => app.log.warn({ err: error }, 'A database connection was lost; the pool opens another.')
  const adapter = new PrismaPg(pool, { schema, disposeExternalPool: true, onPoolError: warn, onConnectionError: warn, statementNameGenerator: ({ sql }) => (prepares ? prepared.get(sql) : undefined) ?? '' })

  const prisma = clientOf(adapter, (label, work) => app.drain.track(label, work))
  app.decorate('prisma', prisma)
  app.decorate('database', {
    get pool () {
      return { open: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }
    },
    functions: new DatabaseFunctions(prisma, { uncertainCommits: () => uncertainCommits, onPrepared: (text, name) => { prepared.set(text, name) } }),
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
        app.log.warn('A pooler in front of Postgres keeps no prepared statements (PgBouncer: max_prepared_statements). The service goes on without them, and is slower.')
      }
      // If no new connection can be made, the open ones must be kept.
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

  /** Closes each of these connections once it is idle: their password may be revoked. */
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
    if (!closing.signal.aborted) app.log.info({ connections: old.length }, 'The password of the database has changed. The connections that were opened with the previous one were closed.')
  }

  app.addHook('onClose', async app => {
    closing.abort()
    await app.prisma.$disconnect()
    for (const run of last) await run()
    await options.release?.()
  })
}, { name: 'database', fastify: '5.x', dependencies: ['metrics', 'settings'] })

const renewalMs = 1_000

/** How often it looks for an idle connection to close, in ms. */
const retireMs = 100

/** SQLSTATEs for a statement that was prepared on another connection, or twice on this one. */
const notPrepared = new Set(['26000', '42P05'])

/** Marks failures to connect: Prisma's adapter passes on only their code, which statements can have too. */
class ServiceClient extends UtcClient {
  constructor (config: PasswordSource & pg.ClientConfig = {}) {
    super(config)
    // Postgres may end a connection after the pool gives it to a transaction and before Prisma listens. Without a listener that
    // error ends the process. pg rejects what is sent on the connection afterwards.
    this.on('error', () => {})
    // pg accepts a function as the password, but the password of a connection string overrides it.
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
  /** Called when the database asks for it. */
  passwordNow?: () => string
}

interface ServicePoolOptions extends pg.PoolConfig, PasswordSource {
  onWaited: (ms: number) => void
  /** @returns whether to try once more */
  onPasswordRefused: () => boolean
}

const passwordRefused = '28P01'

type Acquired = Parameters<Parameters<pg.Pool['connect']>[0]>

/** Tells a waiting attempt that it has a connection. It sends nothing for an attempt that was given up meanwhile. */
class ServicePool extends pg.Pool {
  readonly #options: Pick<ServicePoolOptions, 'onWaited' | 'onPasswordRefused'>

  constructor ({ onWaited, onPasswordRefused, ...config }: ServicePoolOptions) {
    super(config)
    this.#options = { onWaited, onPasswordRefused }
  }

  override connect (): Promise<pg.PoolClient>
  override connect (callback: (...acquired: Acquired) => void): void
  override connect (callback?: (...acquired: Acquired) => void): Promise<pg.PoolClient> | void {
    if (callback === undefined) {
      return new Promise((resolve, reject) => this.#connect((error, client) =>
        client === undefined ? reject(error) : resolve(client)))
    }
    const attempt = Attempt.current()
    attempt?.wait()
    const since = performance.now()
    this.#connect((error, client, release) => {
      this.#options.onWaited(performance.now() - since)
      if (attempt?.send() !== false) return callback(error, client, release)
      if (client !== undefined) release()
      callback(error ?? new NotConnected(new Error('The attempt was given up before it had a connection. Nothing was sent.')), undefined, () => {})
    })
  }

  /** Tries once more with the other password if the database refuses this one. */
  #connect (callback: (...acquired: Acquired) => void): void {
    super.connect((error, client, release) => {
      if (sqlStateOf(error) === passwordRefused && this.#options.onPasswordRefused()) super.connect(callback)
      else callback(error, client, release)
    })
  }
}

/** The cast is safe: the extension changes what `$transaction` does, but not its type. */
function clientOf (adapter: PrismaPg, track: Track): PrismaClient {
  return new PrismaClient({ adapter }).$extends(trackTransactions(track)) as unknown as PrismaClient
}
