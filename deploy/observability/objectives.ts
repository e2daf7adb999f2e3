/**
 * What is promised of the service, as figures. The one place that has them: the recording rules, the alerts, the dashboards, the
 * analyses of a roll-out and the release gate are all made from this file. It imports nothing, as the gate runs on Node alone.
 *
 * Change a figure here, then `npm run observability`: it writes the files that depend on it.
 */
export const objectives = {
  /** Of all requests, the share that the service does not fail (5xx). */
  availability: { objective: 0.999, label: 'availability' },
  /** Of all requests that it answers, the share that it answers within so many seconds: a bound of the histogram's. */
  latency: { objective: 0.99, withinS: 0.25, label: 'latency' },
  /** What the error budget is for. */
  window: '30d'
} as const

/** What a release is held by. */
export const releases = {
  /** The share of the error budget that must be left. */
  budgetMin: 0.1,
  /** What counts as now. */
  recent: '5m',
  /** How many times faster than the objective allows the errors may come now: the rate of the first page, below. */
  burnMax: 14.4,
  /** Of a new revision: up to here it passes. From `failsFrom` times as much it fails; between the two a person decides. */
  revision: { failsFrom: { errors: 10, latency: 4 }, slowerPasses: 1.25, slowerFails: 2 },
  /** Requests a second below which a revision has proved nothing. */
  requestsMinPerS: 0.2
} as const

/**
 * Multi-window, multi-burn-rate alerts: how fast the budget burns, seen over a long window and still over a short one.
 * Site Reliability Workbook, chapter 5, table 5-8.
 */
export const burns = [
  { times: 14.4, long: '1h', short: '5m', severity: 'page', spends: '2 % of the 30 days in an hour' },
  { times: 6, long: '6h', short: '30m', severity: 'page', spends: '5 % of the 30 days in six hours' },
  { times: 3, long: '1d', short: '2h', severity: 'ticket', spends: '10 % of the 30 days in a day' },
  { times: 1, long: '3d', short: '6h', severity: 'ticket', spends: '10 % of the 30 days in three days' }
] as const

/**
 * What is usual, where nothing is promised: the median of the same minutes of the last weeks, and a band around it. A band by the
 * last day alone would alert every morning.
 */
export const bands = {
  weeks: 4,
  /** Weeks that must be known. */
  weeksMin: 3,
  /** Standard deviations of the same hour a week ago, and a share of what is usual: whichever is wider. */
  deviations: 3,
  share: 0.3,
  /** Orders a second below which chance has too large a part in it. */
  ordersMinPerS: 0.1
} as const

export const limits = {
  /** The share of its deadline that a stop may take. */
  stopDeadlineShare: 0.8,
  /** Seconds that an event may wait until it is published. */
  eventAgeS: 300,
  /** Seconds that nobody may know what became of a payment or a refund. */
  paymentAgeS: 600,
  /** Utilization of the event loop. */
  eventLoop: 0.9
} as const

/**
 * Which series are this service's, beside those of others whose metrics have the same standard names. The PodMonitor and compose call
 * the job so. Where pods are found by their annotations it is often `app_kubernetes_io_name="last-orders"`: put that here.
 */
export const service = 'job="last-orders"'

/** Where the runbooks are read. Put the address of your repository before it, and Alertmanager has links. */
export const runbooks = 'docs/runbooks'

/**
 * Requests that count. Probes would flatter the figures, and an event stream lasts as long as its reader. The empty one: series of
 * before December 2026 had other labels, and would count as requests that never fail.
 */
export const counted = 'http_route!~"|/livez|/readyz|/startupz|/orders/stream"'

/** An answer that the service failed. Not 499: a client that went. */
export const failed = 'http_response_status_code=~"5.."'

/** The windows that are recorded: every one that an alert looks at, shortest first. */
export const windows = ['5m', '30m', '1h', '2h', '6h', '1d', '3d'] as const

/** The matchers of a selector, as one. */
export function matching (...matchers: string[]): string {
  return matchers.filter(matcher => matcher !== '').join(', ')
}

/**
 * The share of requests that failed. Error series begin at 0, so that their first error is seen; without any request it is empty
 * or NaN, which is no answer.
 */
export function failedShare (over: string, { by = '', where = '' }: { by?: string, where?: string } = {}): string {
  const grouped = by === '' ? 'sum' : `sum by (${by}) `
  const requests = (matchers: string): string => `${grouped}(rate(http_server_request_duration_seconds_count{${matchers}}[${over}]))`
  return `${requests(matching(counted, failed, where))} / ${requests(matching(counted, where))}`
}

/** The share of the answers that took longer than promised. What failed is not among them: it has an objective of its own. */
export function slowShare (over: string, { by = '', where = '' }: { by?: string, where?: string } = {}): string {
  const grouped = by === '' ? 'sum' : `sum by (${by}) `
  const answered = 'http_response_status_code!~"5.."'
  const requests = (series: string, matchers: string): string => `${grouped}(rate(http_server_request_duration_seconds_${series}{${matchers}}[${over}]))`
  return `1 - ${requests('bucket', matching(counted, answered, `le="${objectives.latency.withinS}"`, where))} / ${requests('count', matching(counted, answered, where))}`
}

/** Without the dust of binary fractions. */
export function round (value: number): number {
  return Number(value.toFixed(6))
}
