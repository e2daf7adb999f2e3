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

/** What is recorded leaves this process, and how to end that. */
export interface Tracing {
  /** Sends what is there. Resolves when the collector has it, and after `limitMs` in any case; never rejects. */
  flush (limitMs: number): Promise<void>
  /** From now on this share of the traces is recorded; nothing where the sampler has no ratio. */
  resample (ratio: number): void
  /** For tests: a process that ends needs no more than a flush. */
  shutdown (): Promise<void>
}

export interface TracingLogger {
  info (details: object, message: string): void
  warn (details: object, message: string): void
}

/** Spans that wait to be sent, at most: two seconds' worth of a busy service with 10 % sampled. More are dropped, and the log says so. */
const maxQueueSize = 8_192

/** As many as INTAKE_BATCH_MAX allows: by default the SDK keeps 128 links. */
const linkCountLimit = 1_000

/** Starts the SDK for the whole process. Nothing imports this file unless traces are asked for. */
export function startTracing ({ url, headers, sampler, propagators, attributes }: NonNullable<TracingConfig['export']>, log: TracingLogger): Tracing {
  // What the SDK itself has to say, such as that it dropped spans.
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

/** Tells of a collector that takes nothing once, and again when it does; what it did not take is lost. */
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

  /** The last attempt: within this time, and so without the pause before a retry. One that takes nothing is not waited for again. */
  async flush (processor: BatchSpanProcessor, limitMs: number): Promise<void> {
    const underWay = this.#lost > 0 ? undefined : this.#exporter.forceFlush()
    this.#exporter = this.#make(limitMs)
    this.#isFlushing = true
    await Promise.allSettled([underWay, processor.forceFlush()])
    this.#isFlushing = false
  }

  /** After the last flush comes the report of the stop, which is the last line of the log: what did not answer by now is told first. */
  endLog (): void {
    if (this.#isFlushing) this.#warn({})
    this.#isLogOver = true
  }

  #warn (details: { err?: Error | undefined }): void {
    if (this.#lost > 0 || this.#isLogOver) return
    this.#log.warn(details, 'The collector takes no spans; they are lost, and nothing else is. Look at OTEL_EXPORTER_OTLP_ENDPOINT.')
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

/** A share of the traces, which may become another one. */
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
 * A root that is linked to others is sampled if any of them is: else the batch of a sampled order would be missing in most cases.
 * The specification has no sampler for it (opentelemetry-specification#2918). A stop is rare, and always sampled.
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
