import type { Settings } from '../config.ts'

const samplers = ['parentbased_always_on', 'parentbased_always_off', 'parentbased_traceidratio', 'always_on', 'always_off', 'traceidratio'] as const
const knownPropagators = ['tracecontext', 'baggage'] as const

export interface TracingConfig {
  /** Whether the service continues a caller's trace. Its id is in the log even if traces are off. */
  readonly followsCallers: boolean
  /** undefined: traces are off, and the SDK is not loaded. */
  readonly export: {
    /** The collector's URL for traces. */
    readonly url: string
    /** May hold secrets. */
    readonly headers: Readonly<Record<string, string>>
    readonly sampler: { readonly name: typeof samplers[number], readonly ratio: number }
    readonly propagators: ReadonlyArray<typeof knownPropagators[number]>
    /** The attributes of the resource. */
    readonly attributes: Readonly<Record<string, string>>
  } | undefined
}

/**
 * The variables of OpenTelemetry that this service supports, with OpenTelemetry's defaults.
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export function tracingOf (settings: Settings, { environment, version }: { environment: string, version: string }): TracingConfig {
  const isDisabled = settings.oneOf('OTEL_SDK_DISABLED', ['true', 'false'], 'false') === 'true'
  const exporter = settings.oneOf('OTEL_TRACES_EXPORTER', ['otlp', 'none'], 'otlp')
  const url = urlOf(settings)
  const headers = pairsOf(settings, settings.isSet('OTEL_EXPORTER_OTLP_TRACES_HEADERS') ? 'OTEL_EXPORTER_OTLP_TRACES_HEADERS' : 'OTEL_EXPORTER_OTLP_HEADERS')
  const sampler = samplerOf(settings)
  const propagators = propagatorsOf(settings)
  const serviceName = settings.text('OTEL_SERVICE_NAME')
  const attributes = {
    'service.name': 'last-orders',
    'service.version': version,
    'deployment.environment.name': environment,
    ...pairsOf(settings, 'OTEL_RESOURCE_ATTRIBUTES'),
    ...serviceName !== undefined && { 'service.name': serviceName }
  }
  return {
    followsCallers: propagators.includes('tracecontext'),
    export: url === undefined || isDisabled || exporter === 'none' ? undefined : { url, headers, sampler, propagators, attributes }
  }
}

function urlOf (settings: Settings): string | undefined {
  for (const name of ['OTEL_EXPORTER_OTLP_PROTOCOL', 'OTEL_EXPORTER_OTLP_TRACES_PROTOCOL']) {
    const protocol = settings.text(name)
    if (protocol !== undefined && protocol !== 'http/json') settings.fault(`${name} is "${protocol}"; this service speaks http/json, which a collector takes on port 4318.`)
  }
  const base = settings.callUrl('OTEL_EXPORTER_OTLP_ENDPOINT', 'set OTEL_EXPORTER_OTLP_HEADERS instead')
  const ofTraces = settings.callUrl('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', 'set OTEL_EXPORTER_OTLP_HEADERS instead')
  return ofTraces ?? (base === undefined ? undefined : `${base.replace(/\/+$/, '')}/v1/traces`)
}

function samplerOf (settings: Settings): { name: typeof samplers[number], ratio: number } {
  const name = settings.oneOf('OTEL_TRACES_SAMPLER', samplers, 'parentbased_always_on')
  const text = settings.text('OTEL_TRACES_SAMPLER_ARG')
  const ratio = text === undefined ? 1 : /^(\d+(\.\d*)?|\.\d+)(e-?\d+)?$/i.test(text) ? Number(text) : NaN
  if (!(ratio >= 0 && ratio <= 1)) settings.fault(`OTEL_TRACES_SAMPLER_ARG is "${text}"; it takes a share from 0 to 1, such as 0.01.`)
  if (text !== undefined && !name.endsWith('traceidratio')) settings.fault(`OTEL_TRACES_SAMPLER_ARG is set, and the sampler ${name} takes none; set OTEL_TRACES_SAMPLER to parentbased_traceidratio.`)
  return { name, ratio }
}

function propagatorsOf (settings: Settings): Array<typeof knownPropagators[number]> {
  const names = settings.text('OTEL_PROPAGATORS', 'tracecontext,baggage').split(',').map(name => name.trim())
  if (names.join() === 'none') return []
  const unknown = names.filter(name => !knownPropagators.some(known => known === name))
  if (unknown.length > 0) settings.fault(`OTEL_PROPAGATORS names ${unknown.map(name => `"${name}"`).join(', ')}; it takes ${knownPropagators.join(', ')}, or none.`)
  return knownPropagators.filter(known => names.includes(known))
}

/** `name=value,name=value`, with special characters in percent-encoding (W3C Baggage). The value may be a secret, so a fault does not repeat it. */
function pairsOf (settings: Settings, name: string): Record<string, string> {
  const pairs: Record<string, string> = {}
  for (const pair of (settings.secret(name) ?? '').split(',').filter(pair => pair.trim() !== '')) {
    const [, key, value = ''] = /^\s*([\w!#$%&'*+.^`|~/-]+)\s*=(.*)$/.exec(pair) ?? []
    try {
      if (key === undefined) throw new URIError('no pair')
      pairs[key] = decodeURIComponent(value.trim())
    } catch {
      settings.fault(`${name} is not a list such as name=value,name=value, with special characters in percent-encoding.`)
      break
    }
  }
  return pairs
}
