import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { context, diag, DiagLogLevel, propagation, trace, TraceFlags } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { CompositePropagator, ExportResultCode, W3CBaggagePropagator, W3CTraceContextPropagator, type ExportResult } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources'
import { AlwaysOffSampler, AlwaysOnSampler, BatchSpanProcessor, ParentBasedSampler, SamplingDecision, TraceIdRatioBasedSampler, TracerProvider, type ReadableSpan, type Sampler, type SpanExporter } from '@opentelemetry/sdk-trace'
import type { TracingConfig } from './settings.ts'
import { traceStatements } from './statement-spans.ts'

/** The running SDK. */
export interface Tracing {
  /** Sends the spans that wait. Resolves when the collector has them, or after `limitMs`; never rejects. */
  flush (limitMs: number): Promise<void>
  /** Sets the share of traces that are recorded. It changes nothing if the sampler has no ratio. */
  resample (ratio: number): void
  /** For tests: a process that ends needs only a flush. */
  shutdown (): Promise<void>
}

export interface TracingLogger {
  info (details: object, message: string): void
  warn (details: object, message: string): void
}

/** The most spans that wait: those of two seconds of a busy service that samples 10 %. The SDK drops more, and logs that. */
const maxQueueSize = 8_192

/** As many links as INTAKE_BATCH_MAX allows orders: by default the SDK keeps 128. */
const linkCountLimit = 1_000

/** Starts the SDK for the whole process. Nothing imports this file unless traces are on. */
export function startTracing ({ url, headers, sampler, propagators, attributes }: NonNullable<TracingConfig['export']>, log: TracingLogger): Tracing {
  // The SDK's own messages, for example that it dropped spans.
  const say = (message: string, ...details: unknown[]): void => log.warn({ details }, message)
  diag.setLogger({ error: say, warn: say, info () {}, debug () {}, verbose () {} }, DiagLogLevel.WARN)

  const exporter = new WatchedExporter(timeoutMillis => new OTLPTraceExporter({ url, headers, ...timeoutMillis !== undefined && { timeoutMillis } }), log)
  const share = new AdjustableShare(sampler.ratio)
  const processor = new BatchSpanProcessor({ exporter, maxQueueSize })
  const provider = new TracerProvider({
    resource: defaultResource().merge(resourceFromAttributes({
      'service.instance.id': crypto.randomUUID(),
      'host.name': hostname(),
      'process.pid': process.pid,
      ...attributes
    })),
    sampler: samplerOf(sampler.name, share),
    spanLimits: { linkCountLimit, eventCountLimit: linkCountLimit },
    spanProcessors: [processor]
  })
  trace.setGlobalTracerProvider(provider)
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new CompositePropagator({ propagators: propagators.map(name => name === 'baggage' ? new W3CBaggagePropagator() : new W3CTraceContextPropagator()) }))
  const endStatements = traceStatements()

  return {
    async flush (limitMs) {
      const limit = new AbortController()
      await Promise.race([exporter.flush(processor, limitMs), delay(limitMs, undefined, { signal: limit.signal })])
      exporter.endLog()
      limit.abort()
    },
    resample: ratio => share.set(ratio),
    async shutdown () {
      endStatements()
      trace.disable()
      context.disable()
      propagation.disable()
      await provider.shutdown()
      diag.disable()
    }
  }
}

/** Logs once that the collector takes no spans, and once that it takes them again. Spans that it did not take are lost. */
class WatchedExporter implements SpanExporter {
  readonly #make: (timeoutMillis: number | undefined) => OTLPTraceExporter
  readonly #log: TracingLogger
  #exporter: OTLPTraceExporter
  #lost = 0
  #isFlushing = false
  #isLogOver = false

  constructor (make: (timeoutMillis: number | undefined) => OTLPTraceExporter, log: TracingLogger) {
    this.#make = make
    this.#log = log
    this.#exporter = make(undefined)
  }

  export (spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.#exporter.export(spans, result => {
      if (result.code === ExportResultCode.FAILED) {
        this.#warn({ err: result.error })
        this.#lost += spans.length
      } else if (this.#lost > 0) {
        if (!this.#isLogOver) this.#log.info({ lost: this.#lost }, 'The collector takes spans again.')
        this.#lost = 0
      }
      // The SDK would log each failure.
      done({ code: ExportResultCode.SUCCESS })
    })
  }

  /** The last attempt, within `limitMs`: too short for the pause before a retry. It does not wait for a call under way to a collector that takes nothing. */
  async flush (processor: BatchSpanProcessor, limitMs: number): Promise<void> {
    const underWay = this.#lost > 0 ? undefined : this.#exporter.forceFlush()
    this.#exporter = this.#make(limitMs)
    this.#isFlushing = true
    await Promise.allSettled([underWay, processor.forceFlush()])
    this.#isFlushing = false
  }

  /** The report of the stop is the last line of the log, so a collector that has not answered by now is logged before it. */
  endLog (): void {
    if (this.#isFlushing) this.#warn({})
    this.#isLogOver = true
  }

  #warn (details: { err?: Error | undefined }): void {
    if (this.#lost > 0 || this.#isLogOver) return
    this.#log.warn(details, 'The collector takes no spans. They are lost; nothing else is. Check OTEL_EXPORTER_OTLP_ENDPOINT.')
  }

  async shutdown (): Promise<void> {
    await this.#exporter.shutdown()
  }
}

function samplerOf (name: NonNullable<TracingConfig['export']>['sampler']['name'], share: Sampler): Sampler {
  switch (name) {
    case 'always_on': return alsoByLinks(new AlwaysOnSampler())
    case 'always_off': return new AlwaysOffSampler()
    case 'traceidratio': return alsoByLinks(share)
    case 'parentbased_always_on': return new ParentBasedSampler({ root: alsoByLinks(new AlwaysOnSampler()) })
    case 'parentbased_always_off': return new ParentBasedSampler({ root: alsoByLinks(new AlwaysOffSampler()) })
    case 'parentbased_traceidratio': return new ParentBasedSampler({ root: alsoByLinks(share) })
  }
}

/** Samples a share of the traces, which can change. */
class AdjustableShare implements Sampler {
  #sampler: TraceIdRatioBasedSampler

  constructor (ratio: number) {
    this.#sampler = new TraceIdRatioBasedSampler(ratio)
  }

  set (ratio: number): void {
    this.#sampler = new TraceIdRatioBasedSampler(ratio)
  }

  shouldSample (...[context, traceId]: Parameters<Sampler['shouldSample']>): ReturnType<Sampler['shouldSample']> {
    return this.#sampler.shouldSample(context, traceId)
  }

  toString (): string {
    return this.#sampler.toString()
  }
}

/**
 * Samples a root if any span that it links to is sampled: else the batch of a sampled order would usually be missing. The
 * specification has no such sampler (opentelemetry-specification#2918). A stop is rare, and always sampled.
 */
function alsoByLinks (root: Sampler): Sampler {
  return {
    shouldSample (parent, traceId, name, kind, attributes, links) {
      const isWanted = 'drain.reason' in attributes || (trace.getSpanContext(parent) === undefined && links.some(({ context }) => (context.traceFlags & TraceFlags.SAMPLED) !== 0))
      return isWanted ? { decision: SamplingDecision.RECORD_AND_SAMPLED } : root.shouldSample(parent, traceId, name, kind, attributes, links)
    },
    toString: () => `AlsoByLinks{${root.toString()}}`
  }
}
