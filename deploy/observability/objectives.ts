/**
 * The promises of the service, as figures, in one place: the recording rules, the alerts, the dashboards, the analyses of a
 * roll-out and the release gate all come from this file. It imports nothing, because the gate runs on Node alone.
 *
 * Change a figure here, then run `npm run observability`, which writes the files that depend on it.
 */
export const objectives = {
  /** The share of all requests that do not fail (5xx). */
  availability: { objective: 0.999, label: 'availability' },
  /** The share of all answers within `withinS` seconds, which must be a bound of the histogram. */
  latency: { objective: 0.99, withinS: 0.25, label: 'latency' },
  /** The window of the error budget. */
  window: '30d'
} as const

/** When a release may go on. */
export const releases = {
  /** The share of the error budget that must be left. */
  budgetMin: 0.1,
  /** How far back "now" reaches. */
  recent: '5m',
  /** The highest burn rate now: that of the first page, below. */
  burnMax: 14.4,
  /** A new revision passes up to the objective. From `failsFrom` times as much it fails; between the two a person decides. */
  revision: { failsFrom: { errors: 10, latency: 4 }, slowerPasses: 1.25, slowerFails: 2 },
  /** With fewer requests per second a revision has proved nothing. */
  requestsMinPerS: 0.2
} as const

/**
 * Multi-window, multi-burn-rate alerts: how fast the budget burns, over a long window and still over a short one.
 * Site Reliability Workbook, chapter 5, table 5-8.
 */
export const burns = [
  { times: 14.4, long: '1h', short: '5m', severity: 'page', spends: '2 % of the 30 days in an hour' },
  { times: 6, long: '6h', short: '30m', severity: 'page', spends: '5 % of the 30 days in six hours' },
  { times: 3, long: '1d', short: '2h', severity: 'ticket', spends: '10 % of the 30 days in a day' },
  { times: 1, long: '3d', short: '6h', severity: 'ticket', spends: '10 % of the 30 days in three days' }
] as const

/**
 * The usual range of figures without a promise: the median of the same minutes of the last weeks, and a band around it. A band
 * from the last day alone would alert every morning.
 */
export const bands = {
  weeks: 4,
  /** Weeks that must be known. */
  weeksMin: 3,
  /** Standard deviations of the same hour a week ago, or a share of the median: whichever is wider. */
  deviations: 3,
  share: 0.3,
  /** With fewer orders per second, chance decides too much. */
  ordersMinPerS: 0.1
} as const

export const limits = {
  /** The share of its deadline that a stop may take. */
  stopDeadlineShare: 0.8,
  /** Seconds that an event may wait until it is published. */
  eventAgeS: 300,
  /** Seconds that the outcome of a payment or a refund may be unknown. */
  paymentAgeS: 600,
  /** Utilization of the event loop. */
  eventLoop: 0.9
} as const

/**
 * Selects this service's series: other services' metrics have the same standard names. The PodMonitor and compose name the job so. If
 * your Prometheus finds pods by their annotations, put `app_kubernetes_io_name="last-orders"` here.
 */
export const service = 'job="last-orders"'

/** Where the runbooks are. Put the address of your repository before it, so that Alertmanager shows links. */
export const runbooks = 'docs/runbooks'

/**
 * The requests that count. Probes would flatter the figures, and an event stream lasts as long as its reader. The empty route:
 * series from before December 2026 have other labels, and would count as requests that never fail.
 */
export const counted = 'http_route!~"|/livez|/readyz|/startupz|/orders/stream"'

/** An answer that counts as failed. 499 does not: the client has gone. */
export const failed = 'http_response_status_code=~"5.."'

/** The recorded windows: every one that an alert uses, shortest first. */
export const windows = ['5m', '30m', '1h', '2h', '6h', '1d', '3d'] as const

/** Joins the matchers of a selector. */
export function matching (...matchers: string[]): string {
  return matchers.filter(matcher => matcher !== '').join(', ')
}

/**
 * The share of requests that failed. Error series begin at 0, so that the first error counts. Without requests the result is empty
 * or NaN, which is no answer.
 */
export function failedShare (over: string, { by = '', where = '' }: { by?: string, where?: string } = {}): string {
  const grouped = by === '' ? 'sum' : `sum by (${by}) `
  const requests = (matchers: string): string => `${grouped}(rate(http_server_request_duration_seconds_count{${matchers}}[${over}]))`
  return `${requests(matching(counted, failed, where))} / ${requests(matching(counted, where))}`
}

/** The share of the answers that took longer than promised. Failed requests have an objective of their own, and do not count. */
export function slowShare (over: string, { by = '', where = '' }: { by?: string, where?: string } = {}): string {
  const grouped = by === '' ? 'sum' : `sum by (${by}) `
  const answered = 'http_response_status_code!~"5.."'
  const requests = (series: string, matchers: string): string => `${grouped}(rate(http_server_request_duration_seconds_${series}{${matchers}}[${over}]))`
  return `1 - ${requests('bucket', matching(counted, answered, `le="${objectives.latency.withinS}"`, where))} / ${requests('count', matching(counted, answered, where))}`
}

/** Drops the rounding errors of binary fractions. */
export function round (value: number): number {
  return Number(value.toFixed(6))
}
