import { hostname, networkInterfaces } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { Counter, Gauge } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import { Prisma, type StopTotal } from '#prisma'
import { uuidv7 } from '../commit/uuidv7.ts'
import { countStops, lostMs, stopReasons } from '../prisma/count-stops.ts'
import { UtcClient } from '../prisma/utc-client.ts'
import type { FastifyInstance } from 'fastify'
import type { DrainState } from 'fastify-drain'

/** How often a process writes that it lives, in ms. */
const beatMs = 5_000

/** How far back `recent` looks. */
const recent = Prisma.sql`now() - interval '1 hour'`

/** How long a start may take to write its row, in ms, and how long it waits before a retry. */
const defaultStartMs = 60_000
const retryMs = 250

/** How long writing a beat or a stop may take, in ms: a stop must not wait for a database that hangs. */
const writeMs = 2_000

/** How long the last write of a stop may take, in ms. */
const lastWordsMs = 500

/** How long closed sockets and handles may take to be gone, in ms. */
const closingMs = 200

/** `unfinished`: the process wrote no end, for example because it was killed. */
export const stopOutcomes = ['clean', 'abandoned', 'failed', 'unfinished'] as const
export type StopOutcome = typeof stopOutcomes[number]

export interface StopsOptions {
  deadlineMs: number
  /** The service's version, with its revision if that is known. */
  version: string
  databaseUrl: string
  /** How long a start may take to write its row, in ms. Default: 60,000. */
  startMs?: number
}

declare module 'fastify' {
  interface FastifyInstance {
    stops: {
      /** The service's version, as in its row. */
      readonly version: string
      /** The stops of the last hour, of all instances on this database. */
      recent (): Promise<Record<StopOutcome, number>>
      /** The longest of them in ms, and the largest share of its deadline that one took; 0 if none has finished. */
      worst (): Promise<{ longestMs: number, deadlineShare: number }>
      /** All stops ever, by outcome and reason; counts those that have ended meanwhile first. */
      totals (): Promise<StopTotal[]>
      /** Names the operators' app: it answers until the process exits, so its sockets are no leak. */
      isWatchedAt (ops: FastifyInstance): void
    }
  }
}

/**
 * One row for each life of a process: inserted at its start, updated every few seconds, and completed at its end. A killed
 * process falls silent. The living processes count the ended ones (`count_stops`), so that a stop is counted even if the process
 * was killed, or was not scraped in time.
 *
 * Registered between the database and the drain, so that its onClose runs after everything else and before the database closes.
 */
export default fp<StopsOptions>(async (app, { deadlineMs, version, databaseUrl, startMs = defaultStartMs }) => {
  const heldBefore = countsOf(process.getActiveResourcesInfo())
  // The pool counts its own sockets.
  const socketsBefore = socketsIn(heldBefore) - app.database.pool.open
  let row = newRow()
  let startedAt: Date | undefined
  let ops: FastifyInstance | undefined
  let timer: NodeJS.Timeout | undefined
  let isBeating = false
  let isFinished = false
  const isClosing = (): boolean => app.drain.state === 'closing' || app.drain.state === 'closed'
  const hearing = new Hearing()
  const judges = (): boolean => hearing.judges(performance.now())

  /** The row is there already if the answer to an earlier attempt was lost. */
  async function begin ({ id }: Row, timeoutMs?: number): Promise<void> {
    const { rows: [begun] } = await app.database.execute<{ startedAt: Date }>(Prisma.sql`
      INSERT INTO stops (id, instance, pid, started_at, seen_at, state, in_flight, version, deadline_ms)
      VALUES (${id}::uuid, ${hostname()}, ${process.pid}, coalesce(${startedAt}::timestamptz, now()), now(), ${app.drain.state}, 0, ${version}, ${deadlineMs})
      ON CONFLICT (id) DO UPDATE SET seen_at = now()
      RETURNING started_at AS "startedAt"`, timeoutMs)
    startedAt ??= begun?.startedAt
  }

  /** Uses the database's clock, because all rows must share one. */
  async function write (...figures: Prisma.Sql[]): Promise<void> {
    const seen = [
      Prisma.sql`seen_at = now()`,
      Prisma.sql`state = ${app.drain.state}`,
      Prisma.sql`in_flight = ${app.drain.report().requests.inFlight}`,
      Prisma.sql`ops_url = ${ops === undefined ? null : opsUrlOf(ops)}`,
      Prisma.sql`sessions = ${app.database.sessions}::integer[]`
    ]
    // A beat and the beginning of a stop may write at the same time. They share `row`: if both miss it, only one is inserted.
    for (let attempt = 0; attempt < 3; attempt++) {
      const known = row
      const wasThere = known.isThere
      const { rowCount } = await app.database.execute(Prisma.sql`UPDATE stops SET ${Prisma.join([...seen, ...figures])} WHERE id = ${known.id}::uuid AND counted_at IS NULL`, writeMs)
      if (rowCount !== 0) {
        known.isThere = true
        return
      }
      // This process was silent for so long that it was counted as killed: from now on it needs a new row. It keeps a row whose
      // INSERT had no answer, because that row may still appear.
      if (known === row && wasThere) row = newRow()
      const next = row
      await begin(next, writeMs)
      next.isThere = true
    }
    throw new Error('Three times in a row, the row of this process was counted as ended. Nothing was written.')
  }

  async function beat (): Promise<void> {
    const now = performance.now()
    try {
      await write()
      hearing.heard(now)
    } catch (error) {
      // Only debug: others log that the database is away.
      app.log.debug({ err: error }, "This process's heartbeat was not written to the database.")
      hearing.missed()
    }
  }

  /** One at a time: beats must not pile up if the database hangs. None while closing: the end of the stop must find none under way. */
  function beatSoon (): void {
    if (isBeating || isClosing()) return
    isBeating = true
    void beat().finally(() => { isBeating = false })
  }

  app.decorate('stops', {
    version,
    async recent () {
      const rows = await app.prisma.$queryRaw<Array<{ outcome: StopOutcome, count: number }>>`
        SELECT CASE WHEN life.finished_at IS NULL THEN 'unfinished' WHEN life.exit_code = 0 THEN 'clean' WHEN life.exit_code = 20 THEN 'abandoned' ELSE 'failed' END AS outcome,
               count(*)::integer AS count
          FROM stops life
         WHERE (life.counted_at IS NULL OR life.counted_at > ${recent})
           AND CASE WHEN life.finished_at IS NOT NULL THEN life.finished_at > ${recent}
               ELSE greatest(life.seen_at, life.stopping_at) > ${recent}
                AND (life.outcome IS NOT NULL OR ((life.seen_at IS NULL OR ${judges()}) AND is_lost(life, ${lostMs}::bigint, ${deadlineMs}::bigint))) END
         GROUP BY 1`
      const counts = { clean: 0, abandoned: 0, failed: 0, unfinished: 0 }
      for (const { outcome, count } of rows) counts[outcome] = count
      return counts
    },
    async worst () {
      const [worst] = await app.prisma.$queryRaw<Array<{ longestMs: number, deadlineShare: number }>>`
        SELECT coalesce(max(report_number(report, 'elapsed')), 0)::float AS "longestMs",
               coalesce(max(report_number(report, 'elapsed') / nullif(report_number(report, 'deadline'), 0)), 0)::float AS "deadlineShare"
          FROM stops
         WHERE (counted_at IS NULL OR counted_at > ${recent}) AND finished_at > ${recent}`
      return worst ?? { longestMs: 0, deadlineShare: 0 }
    },
    async totals () {
      await countStops(app.prisma, { deadlineMs, judges: judges() })
      // After $disconnect Prisma would open a new pool for a statement, and nobody would close it.
      if (isClosing()) throw new Error('The stop has begun to close the database. The stops were counted, but their totals were not read.')
      return await app.prisma.stopTotal.findMany()
    },
    isWatchedAt (watching: FastifyInstance) {
      ops = watching
      beatSoon()
    }
  })

  measure(app)

  /** Retries passing failures: during a roll-out the database may be short of connections for a while, or its tables locked. */
  async function beginInTime (): Promise<void> {
    const until = performance.now() + startMs
    for (;;) {
      try {
        return await begin(row)
      } catch (error) {
        if (performance.now() + retryMs < until && app.drain.state === 'starting' && mayPass(error)) {
          await delay(retryMs)
          continue
        }
        throw new Error(`The start of this process was not written to the table stops (the hook onReady of the plugin stops, which has ${startMs / 1_000} s): ${error instanceof Error ? error.message : String(error)}. Nothing is served. Find out what locks that table or keeps the database busy, and start again.`, { cause: error })
      }
    }
  }

  app.addHook('onReady', async () => {
    await beginInTime()
    row.isThere = true
    hearing.heard(performance.now())
    timer = setInterval(beatSoon, beatMs).unref()
    app.drain.on('draining', async () => {
      try {
        await write(Prisma.sql`stopping_at = now()`)
      } catch (error) {
        // Not a failure of the stop: the log line says the same.
        app.log.error({ err: error }, 'The beginning of this stop was not written to the database.')
      }
    }, { name: 'write down the stop' })
  })

  app.addHook('onClose', async () => {
    if (startedAt === undefined) return
    clearInterval(timer)
    const report = app.drain.report()
    try {
      await write(
        Prisma.sql`finished_at = now()`,
        Prisma.sql`reason = ${report.reason ?? 'close'}`,
        Prisma.sql`exit_code = ${report.exitCode ?? 0}`,
        Prisma.sql`report = ${JSON.stringify(report)}::jsonb`
      )
      isFinished = true
    } catch (error) {
      // The log line says the same; a database that is gone must not keep the process.
      app.log.error({ err: error }, 'The report of this stop was not written to the database.')
    }
  })

  // Leaks show only after everything is closed, including the pool.
  app.database.lastly(async () => {
    if (!isFinished) return
    const look = async (): Promise<{ sockets: number, handles: number }> => leaksOf(app.drain.report().resources ?? {}, {
      before: heldBefore,
      sockets: socketsBefore + app.database.pool.open + (ops === undefined ? 0 : await connectionsOf(ops)),
      listeners: ops?.addresses().length ?? 0
    })
    let leaks = await look()
    // Closed handles take a moment to go.
    for (const until = performance.now() + closingMs; leaks.sockets + leaks.handles > 0 && performance.now() < until; leaks = await look()) {
      await delay(5, undefined, { ref: false })
    }
    const report = app.drain.report()
    const client = new UtcClient({ connectionString: app.settings.databaseUrl() ?? databaseUrl, application_name: 'last-orders', connectionTimeoutMillis: lastWordsMs, query_timeout: lastWordsMs })
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('UPDATE stops SET report = $2, exit_code = $3, leaked_connections = $4, leaked_sockets = $5, leaked_handles = $6 WHERE id = $1 AND counted_at IS NULL',
        [row.id, JSON.stringify(report), report.exitCode ?? 0, app.database.pool.open, leaks.sockets, leaks.handles])
    } catch (error) {
      app.log.warn({ err: error }, 'The leaks of this stop were not written to the database. The rest of its report was.')
    } finally {
      await client.end().catch(() => {})
    }
  })
}, { name: 'stops', fastify: '5.x', dependencies: ['database', 'metrics'] })

/**
 * Whether this process may judge others as silent: only after its own beats were steady for `lostMs`, because after an outage of
 * the database all look silent. Times are of performance.now().
 */
export class Hearing {
  #beatAt = -Infinity
  /** The first beat after the last missed one. */
  #steadySince = Infinity

  heard (at: number): void {
    if (this.#steadySince === Infinity || at - this.#beatAt > 2 * beatMs) this.#steadySince = at
    this.#beatAt = at
  }

  missed (): void {
    this.#steadySince = Infinity
  }

  judges (now: number): boolean {
    return now - this.#beatAt < 2 * beatMs && now - this.#steadySince >= lostMs
  }
}

/** False if the table, a column or a right is missing, or if the database takes no writes. */
function mayPass (error: unknown): boolean {
  return !(error instanceof Error && 'code' in error && /^(25|28|3D|3F|42)/.test(String(error.code)))
}

interface Row {
  readonly id: string
  /** Whether the database is known to have it. */
  isThere: boolean
}

function newRow (): Row {
  return { id: uuidv7(Date.now()), isThere: false }
}

const drainStates = Object.keys({ starting: 0, serving: 1, draining: 2, closing: 3, closed: 4 } satisfies Record<DrainState, number>)
const phases = { draining: 'drainingMs', closing: 'closingMs', app_close: 'appCloseMs' } as const
const fates = ['completed', 'refused', 'unstarted', 'abandoned', 'cut'] as const
const leakKinds = { connections: 'leakedConnections', sockets: 'leakedSockets', handles: 'leakedHandles', sessions: 'leakedSessions' } as const

/**
 * All but the state cover every instance on this database, and every instance reports the same: take the `max`, not the sum.
 * The counters come from a table, so a new process continues them.
 */
function measure (app: FastifyInstance): void {
  const { registers } = app.metrics
  const drainState = new Gauge({
    name: 'drain_state',
    help: '1 for the current state of the service',
    labelNames: ['state'],
    registers,
    collect () {
      for (const state of drainStates) drainState.set({ state }, app.drain.state === state ? 1 : 0)
    }
  })

  const ofAll = 'of every instance on this database'
  const total = new Counter({ name: 'stops_total', help: `Stops ${ofAll}, by outcome and reason; unfinished: the process wrote no end, for example because it was killed`, labelNames: ['outcome', 'reason'], registers })
  const seconds = new Counter({ name: 'stops_seconds_total', help: `Time that the stops ${ofAll} took, by phase`, labelNames: ['phase'], registers })
  const requests = new Counter({ name: 'stops_requests_total', help: `Requests during the stops ${ofAll}, by fate`, labelNames: ['fate'], registers })
  const abandoned = new Counter({ name: 'stops_work_abandoned_total', help: `Tracked work that the stops ${ofAll} abandoned`, registers })
  const leaks = new Counter({ name: 'stops_leaks_total', help: `What the stops ${ofAll} left behind: connections of the pool, sockets, other handles, sessions of Postgres`, labelNames: ['kind'], registers })
  const recent = new Gauge({ name: 'stops_recent', help: 'Stops of the last hour, of all instances, by outcome', labelNames: ['outcome'], registers })
  const longest = new Gauge({ name: 'stops_longest_seconds', help: 'The longest stop of the last hour', registers })
  const share = new Gauge({ name: 'stops_deadline_share_max', help: 'The largest share of its deadline that a stop of the last hour took', registers })

  app.metrics.ofDatabase({
    instruments: [total, seconds, requests, abandoned, leaks, recent, longest, share],
    read: async () => {
      const [totals, recent, worst] = await Promise.all([app.stops.totals(), app.stops.recent(), app.stops.worst()])
      return { totals, recent, worst }
    },
    show: ({ totals, recent: counts, worst }) => {
      const sumOf = (figure: keyof Omit<StopTotal, 'outcome' | 'reason'>): number => totals.reduce((sum, row) => sum + Number(row[figure]), 0)
      for (const outcome of ['clean', 'abandoned', 'failed']) for (const reason of [...stopReasons, 'other']) total.inc({ outcome, reason }, 0)
      for (const reason of ['killed-serving', 'killed-stopping']) total.inc({ outcome: 'unfinished', reason }, 0)
      for (const { outcome, reason, stops } of totals) total.inc({ outcome, reason }, Number(stops))
      for (const [phase, figure] of Object.entries(phases)) seconds.inc({ phase }, sumOf(figure) / 1_000)
      for (const fate of fates) requests.inc({ fate }, sumOf(fate))
      abandoned.inc(sumOf('workAbandoned'))
      for (const [kind, figure] of Object.entries(leakKinds)) leaks.inc({ kind }, sumOf(figure))
      for (const [outcome, count] of Object.entries(counts)) recent.set({ outcome }, count)
      longest.set(worst.longestMs / 1_000)
      share.set(worst.deadlineShare)
    }
  })
}

/** Resources that are left after the close, without those from before this app and those of the operators' port. */
function leaksOf (
  resources: Record<string, number>,
  known: { before: Record<string, number>, sockets: number, listeners: number }
): { sockets: number, handles: number } {
  let handles = -known.listeners
  for (const [type, count] of Object.entries(resources)) {
    if (socketTypes.has(type) || ofAMoment.test(type)) continue
    // Timers from before do not count: Fastify sets one per plugin during the start, and they do not last.
    handles += Math.max(0, count - (type === 'Timeout' ? 0 : known.before[type] ?? 0))
  }
  return { sockets: Math.max(0, socketsIn(resources) - known.sockets), handles: Math.max(0, handles) }
}

/** Node's names; a PipeWrap is a Unix socket, or stdin, stdout or stderr. */
const socketTypes: ReadonlySet<string> = new Set(['TCPSocketWrap', 'TLSWrap', 'PipeWrap', 'UDPWrap'])

function socketsIn (resources: Record<string, number>): number {
  return Object.entries(resources).reduce((sum, [type, count]) => socketTypes.has(type) ? sum + count : sum, 0)
}

/** Requests to the operating system, which end by themselves. */
const ofAMoment = /Req|Promise|WriteWrap|ShutdownWrap|ConnectWrap|Immediate/

function countsOf (types: string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const type of types) counts[type] = (counts[type] ?? 0) + 1
  return counts
}

async function connectionsOf ({ server }: FastifyInstance): Promise<number> {
  return await new Promise(resolve => server.getConnections((error, count) => resolve(error === null ? count : 0)))
}

/** The URL at which others reach it: the machine's own address if it listens on all. Null before it listens. */
function opsUrlOf (ops: FastifyInstance): string | null {
  const [listener] = ops.addresses()
  if (listener === undefined || typeof listener === 'string') return null
  const { address, port } = listener
  const isAny = address === '0.0.0.0' || address === '::'
  const host = isAny ? Object.values(networkInterfaces()).flat().find(own => own?.internal === false && own.family === 'IPv4')?.address ?? hostname() : address
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
