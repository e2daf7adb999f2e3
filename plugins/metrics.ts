import { setTimeout as delay } from 'node:timers/promises'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry, type Metric } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { problems, type ProblemType } from './errors.ts'
import { methodOf, type EndedRequest } from './request-telemetry.ts'

/** A little less than the usual interval between scrapes, so that each finds new ones. */
const defaultMaxAgeMs = 14_500
/** How long a scrape waits for them, in ms: it must not hang with the database. */
const figuresTimeoutMs = 2_000

/** What a scrape can ask for. OpenMetrics has exemplars, by which one goes from a slow bucket to a trace. */
export type Format = 'text' | 'openMetrics'

export const contentTypes = {
  text: Registry.PROMETHEUS_CONTENT_TYPE,
  openMetrics: Registry.OPENMETRICS_CONTENT_TYPE
} as const satisfies Record<Format, string>

const httpLabels = ['http_request_method', 'http_route', 'http_response_status_code', 'error_type', 'url_scheme'] as const
type HttpLabel = typeof httpLabels[number]

/** The client's types have an exemplar's labels among those of its metric. */
export type ExemplarLabel = 'trace_id'

/** What holds figures of the database, and is empty without them. */
type Filled = Gauge<string> | Counter<string>

export interface MetricsOptions {
  build: Config['build']
  /** How long figures of the database are shown, in ms. Default: 14,500. */
  figuresMaxAgeMs?: number
}

export interface DatabaseFigures<Figures> {
  /** Once in 15 s at most, however often the service is scraped. */
  read: () => Promise<Figures>
  /** Emptied before each `show`, and where there are no figures: what is old must not look fresh. */
  instruments: readonly Filled[]
  show: (figures: Figures) => void
}

declare module 'fastify' {
  interface FastifyInstance {
    metrics: {
      /** For what a plugin measures: `new Counter({ name, help, registers: app.metrics.registers })`. Each registers its own. */
      readonly registers: [Registry]
      /** A gauge that is read when it is asked for. */
      gauge (name: string, help: string, read: () => number): void
      ofDatabase<Figures> (figures: DatabaseFigures<Figures>): void
      /** An answer that no request was behind. */
      countProblem (type: ProblemType): void
      render (format?: Format): Promise<string>
    }
  }
}

/** The exemplar of a request: none where its trace is not recorded, for it could not be looked up. */
export function exemplarOf (sampledTraceId: string | undefined): Partial<Record<ExemplarLabel, string>> {
  return sampledTraceId === undefined ? {} : { trace_id: sampledTraceId }
}

/** The registry, and what is measured of HTTP. Registered early, so that every route is known. */
export default fp<MetricsOptions>(async (app, { build, figuresMaxAgeMs = defaultMaxAgeMs }) => {
  // Exemplars can be kept for no other format.
  const registry = new Registry(Registry.OPENMETRICS_CONTENT_TYPE)
  const registers: [Registry] = [registry]
  const figures: Array<{ refresh (mayRead: boolean): Promise<boolean> }> = []
  collectDefaultMetrics({ register: registry })

  const buildInfo = new Gauge({ name: 'build_info', help: '1; the labels say what runs', labelNames: ['version', 'revision'], registers })
  buildInfo.set({ version: build.version, revision: build.revision ?? '' }, 1)

  // The names, labels and buckets of https://opentelemetry.io/docs/specs/semconv/http/http-metrics/
  const duration = new Histogram<HttpLabel | ExemplarLabel>({
    name: 'http_server_request_duration_seconds',
    help: 'Time from the head of a request to the end of its answer',
    labelNames: httpLabels,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
    enableExemplars: true,
    registers
  })
  const problemsTotal = new Counter({ name: 'problems_total', help: 'Answers that were a problem, by its type', labelNames: ['type'], registers })
  for (const type of Object.keys(problems)) problemsTotal.inc({ type }, 0)
  gauge('http_server_active_requests', 'Requests begun and not ended', () => app.requests.active)

  // A series that begins with its first error hides it: increase() and rate() see no step. So errors begin at 0.
  app.addHook('onRoute', ({ method, url, config }) => {
    for (const name of [method].flat()) {
      const changes = name !== 'GET' && name !== 'HEAD'
      const errors = [[500, 'internal-error'], ...config?.probe === true ? [[503, '503']] : [[503, 'not-started'], [503, 'abandoned'], ...changes ? [[503, 'outcome-unknown']] : []]] as Array<[number, string]>
      for (const [status, errorType] of errors) duration.zero(labelsOf({ method: methodOf({ method: name }), route: url, status, errorType, scheme: 'http' }))
    }
  })

  app.requests.onEnd(({ request, method, route, status, problem, errorType, scheme, durationMs, isStream }) => {
    if (problem !== undefined) problemsTotal.inc({ type: problem })
    // An event stream lasts as long as its reader likes.
    if (isStream) return
    duration.observe({
      labels: labelsOf({ method, route, status, errorType, scheme }),
      value: durationMs / 1_000,
      exemplarLabels: exemplarOf(request.sampledTraceId)
    })
  })

  const databaseUp = new Gauge({ name: 'database_gauges_up', help: '1 where the figures of the database are there; 0 where it did not give them, and they are absent', registers })

  app.decorate('metrics', {
    registers,
    gauge,
    ofDatabase<Figures> (options: DatabaseFigures<Figures>) {
      figures.push(new CachedFigures(options, figuresMaxAgeMs))
    },
    countProblem (type: ProblemType) {
      problemsTotal.inc({ type })
    },
    async render (format: Format = 'text') {
      // Not once the database closes: Prisma would open it again.
      const mayRead = app.drain.state !== 'closing' && app.drain.state !== 'closed'
      const fresh = await Promise.all(figures.map(async one => await one.refresh(mayRead)))
      databaseUp.set(fresh.every(Boolean) ? 1 : 0)
      return await inFormat(format, registry).metrics()
    }
  })

  function gauge (name: string, help: string, read: () => number): void {
    const instrument: Gauge = new Gauge({
      name,
      help,
      registers,
      collect () {
        instrument.set(read())
      }
    })
  }
}, { name: 'metrics', fastify: '5.x', dependencies: ['request-telemetry'] })

function labelsOf ({ method, route = '', status, errorType = '', scheme }: Pick<EndedRequest, 'method' | 'route' | 'status' | 'errorType' | 'scheme'>): Record<HttpLabel, string | number> {
  return { http_request_method: method, http_route: route, http_response_status_code: status, error_type: errorType, url_scheme: scheme }
}

/** Read once for all scrapes of some seconds, and by one reader at a time: where the database is slow, they would only add to it. */
class CachedFigures<Figures> {
  readonly #options: DatabaseFigures<Figures>
  readonly #maxAgeMs: number
  #readAt = -Infinity
  #reading: Promise<void> | undefined

  constructor (options: DatabaseFigures<Figures>, maxAgeMs: number) {
    this.#options = options
    this.#maxAgeMs = maxAgeMs
    this.#empty()
  }

  /** @returns whether there are figures */
  async refresh (mayRead: boolean): Promise<boolean> {
    if (this.#isFresh()) return true
    if (mayRead) {
      this.#reading ??= this.#read().finally(() => { this.#reading = undefined })
      await Promise.race([this.#reading, delay(figuresTimeoutMs, undefined, { ref: false })])
    }
    if (this.#isFresh()) return true
    this.#empty()
    return false
  }

  #isFresh (): boolean {
    return performance.now() - this.#readAt < this.#maxAgeMs
  }

  async #read (): Promise<void> {
    const begunAt = performance.now()
    try {
      const figures = await this.#options.read()
      this.#empty()
      this.#options.show(figures)
      this.#readAt = begunAt
    } catch {
      // database_gauges_up tells.
    }
  }

  #empty (): void {
    for (const instrument of this.#options.instruments) {
      instrument.reset()
      // One without labels would be 0 then.
      instrument.remove({})
    }
  }
}

/** The instruments under names of their own: to render OpenMetrics takes `_total` off those of counters, for good. */
function inFormat (format: Format, registry: Registry): Registry {
  const rendered = new Registry(contentTypes[format])
  for (const instrument of registry.getMetricsAsArray()) {
    rendered.registerMetric(Object.create(instrument, { name: { value: instrument.name, writable: true } }) as Metric<string>)
  }
  return rendered
}
