import pg from 'pg'
import { pino, type DestinationStream } from 'pino'
import { request, type Dispatcher } from 'undici'
import { buildApp, type AppOptions } from '../app.ts'
import { signToken } from '../auth/local-token.ts'
import { loadConfig, type Environment } from '../config.ts'
import { Layers, type Central } from '../config/layers.ts'
import { RunningSettings } from '../config/running.ts'
import { startPgBouncer } from './pgbouncer.ts'
import { createTestDatabase } from './postgres.ts'
import type { FastifyInstance } from 'fastify'

export const secret = 'a secret for tests, of more than thirty-two bytes'

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

export interface AppOverrides extends Partial<Pick<AppOptions, 'auth' | 'customers' | 'drain' | 'payments' | 'publisher' | 'traces'>> {
  /** Settings by their names. */
  settings?: Environment
  /** The central settings of an app whose settings may change while it runs. `settings` are then those of the environment. */
  central?: Central | 'none'
  /** All layers of an app whose settings may change while it runs. */
  layers?: Layers
  /** The database of another app; this one is a second instance on it. */
  databaseUrl?: string
  /** The URL by which the test itself reaches that database, if it is another. */
  connectTo?: string
  /** Where the log goes. Default: nowhere. */
  log?: DestinationStream
  /** Adds to the app before it listens. */
  extend?: (app: FastifyInstance) => void
}

export interface Answer<Body> {
  status: number
  headers: Record<string, string | string[] | undefined>
  text: string
  body: Body
}

export interface Ask {
  token?: string | undefined
  /** Sent as JSON; a string is sent as it is. */
  body?: unknown
  headers?: Record<string, string | string[]>
}

export interface RunningApp {
  app: FastifyInstance
  url: string
  databaseUrl: string
  /** The test's own connection to the database. */
  sql: pg.Client
  /** A token of a customer, or of staff. */
  token (sub: string, options?: { staff?: boolean, refunds?: boolean }): string
  ask <Body = unknown>(method: Dispatcher.HttpMethod, path: string, ask?: Ask): Promise<Answer<Body>>
}

/** Starts the service on a database of the test's own. It listens, so that requests go over real sockets. */
export async function startApp (t: Test, overrides: AppOverrides = {}): Promise<RunningApp> {
  const databaseUrl = overrides.databaseUrl ?? (await createTestDatabase(t)).url
  const sql = new pg.Client({ connectionString: overrides.connectTo ?? databaseUrl, application_name: 'test' })
  // Some tests stop the server of this connection.
  sql.on('error', () => {})
  await sql.connect()
  t.teardown(() => sql.end())
  if (overrides.databaseUrl === undefined) {
    await sql.query(`INSERT INTO products VALUES
      ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000),
      ('crisps', 'Bag of crisps', 150, 'EUR', 1000000),
      ('bourbon', 'Shot of bourbon', 900, 'USD', 1000000),
      ('malt-1989', 'Dram of the 1989 malt', 4200, 'EUR', 5),
      ('cellar', 'All of the cellar', 9007199254740991, 'EUR', 1000000)`)
  }

  // TEST_POOLER=pgbouncer sends a whole test file through a pooler, unless the test itself put something in between.
  const isPooled = process.env.TEST_POOLER === 'pgbouncer' && overrides.connectTo === undefined
  const servedUrl = isPooled ? (await startPgBouncer(t, databaseUrl)).url : databaseUrl
  const settings = { NODE_ENV: 'test', AUTH_JWT_SECRET: secret, DATABASE_URL: servedUrl, ...overrides.settings }
  const layers = overrides.layers ?? (overrides.central && new Layers({ file: {}, process: settings }, overrides.central === 'none' ? undefined : overrides.central))
  const running = layers && new RunningSettings(layers)
  const config = running?.now ?? loadConfig(settings)
  const app = await buildApp({
    config,
    running,
    database: { url: config.database.url ?? servedUrl },
    auth: overrides.auth ?? { secret: config.auth.secret ?? secret, previousSecret: config.auth.previousSecret },
    logger: overrides.log === undefined ? pino({ level: 'silent' }) : pino({ level: 'debug' }, overrides.log),
    drain: { exit: false, ...overrides.drain },
    ...overrides.customers && { customers: overrides.customers },
    ...overrides.payments && { payments: overrides.payments },
    ...overrides.publisher && { publisher: overrides.publisher },
    traces: overrides.traces
  })
  t.teardown(() => app.close())
  overrides.extend?.(app)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })

  return {
    app,
    url,
    databaseUrl,
    sql,
    token: (sub, options) => signToken({ secret, sub, ...options }),
    async ask <Body>(method: Dispatcher.HttpMethod, path: string, { token, body, headers }: Ask = {}): Promise<Answer<Body>> {
      const response = await request(url + path, {
        method,
        headers: {
          ...token !== undefined && { authorization: `Bearer ${token}` },
          ...body !== undefined && { 'content-type': 'application/json' },
          ...headers
        },
        body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body)
      })
      const text = await response.body.text()
      const isJson = /json/.test(String(response.headers['content-type']))
      return { status: response.statusCode, headers: response.headers, text, body: (isJson && text !== '' ? JSON.parse(text) : undefined) as Body }
    }
  }
}
