import { setTimeout as delay } from 'node:timers/promises'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry, type Metric } from '@prometheus-io/client'
import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import { problems, type ProblemType } from './errors.ts'
import { methodOf, type EndedRequest } from './request-telemetry.ts'

/** A little less than the usual scrape interval (15 s), so that each scrape finds new figures. */
const defaultMaxAgeMs = 14_500
/** How long a scrape waits for figures, in ms: it must not hang with the database. */
const figuresTimeoutMs = 2_000

/** What a scrape can ask for. OpenMetrics has exemplars, which lead from a slow bucket to a trace. */
export type Format = 'text' | 'openMetrics'

export const contentTypes = {
  text: Registry.PROMETHEUS_CONTENT_TYPE,
  openMetrics: Registry.OPENMETRICS_CONTENT_TYPE
} as const satisfies Record<Format, string>

const httpLabels = ['http_request_method', 'http_route', 'http_response_status_code', 'error_type', 'url_scheme'] as const
type HttpLabel = typeof httpLabels[number]

/** The metrics library types an exemplar's labels as labels of its metric. */
export type ExemplarLabel = 'trace_id'

type Filled = Gauge<string> | Counter<string>

export interface MetricsOptions {
  build: Config['build']
  /** How long figures of the database are shown, in ms. Default: 14,500. */
  figuresMaxAgeMs?: number
}

export interface DatabaseFigures<Figures> {
  /** Called at most once in `figuresMaxAgeMs`, however often the service is scraped. */
  read: () => Promise<Figures>
  /** Emptied before each `show` and without figures: old figures must not look fresh. */
  instruments: readonly Filled[]
  show: (figures: Figures) => void
}

declare module 'fastify' {
  interface FastifyInstance {
    metrics: {
      /** Each plugin registers its own metrics: `new Counter({ name, help, registers: app.metrics.registers })`. */
      readonly registers: [Registry]
      /** A gauge whose value is read at each scrape. */
      gauge (name: string, help: string, read: () => number): void
      ofDatabase<Figures> (figures: DatabaseFigures<Figures>): void
      /** Counts a problem that was answered outside of a request. */
      countProblem (type: ProblemType): void
      render (format?: Format): Promise<string>
    }
  }
}

/** The exemplar of a request; none unless its trace is recorded, because nobody could look it up. */
export function exemplarOf (sampledTraceId: string | undefined): Partial<Record<ExemplarLabel, string>> {
  return sampledTraceId === undefined ? {} : { trace_id: sampledTraceId }
}

/** The registry and the metrics of HTTP. Registered early, so that its hook sees every route. */
export default fp<MetricsOptions>(async (app, { build, figuresMaxAgeMs = defaultMaxAgeMs }) => {
  // Only a registry of this format keeps exemplars.
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
  const problemsTotal = new Counter({ name: 'problems_total', help: 'Answers that were a problem, by type', labelNames: ['type'], registers })
  for (const type of Object.keys(problems)) problemsTotal.inc({ type }, 0)
  gauge('http_server_active_requests', 'Requests begun and not ended', () => app.requests.active)

  // Errors begin at 0: in a series that begins with its first error, increase() and rate() see no step.
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

  const databaseUp = new Gauge({ name: 'database_gauges_up', help: '1 if the database gave its figures; 0 if it did not, and they are absent', registers })

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
      // While the database closes, a read would make Prisma open it again.
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

/** Reads once for all scrapes of some seconds, and one read at a time: more reads would slow down a slow database. */
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
      // database_gauges_up shows it.
    }
  }

  #empty (): void {
    for (const instrument of this.#options.instruments) {
      instrument.reset()
      // After reset() a metric without labels is 0; this removes it.
      instrument.remove({})
    }
  }
}

/** Renders copies: rendering OpenMetrics removes `_total` from the names of counters for good. */
function inFormat (format: Format, registry: Registry): Registry {
  const rendered = new Registry(contentTypes[format])
  for (const instrument of registry.getMetricsAsArray()) {
    rendered.registerMetric(Object.create(instrument, { name: { value: instrument.name, writable: true } }) as Metric<string>)
  }
  return rendered
}
