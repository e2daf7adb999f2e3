import { bands, burns, failedShare, limits, objectives, round, runbooks, service, slowShare, windows } from './objectives.ts'

/** A series that Prometheus records, because alerts, dashboards and analyses use it more than once. */
export interface Recording {
  record: string
  expr: string
}

/**
 * `page` wakes somebody up: customers are affected now. `ticket` waits for the next working day: an unusual figure is not a broken
 * promise.
 */
export interface Alert {
  alert: string
  expr: string
  for?: string
  labels: { severity: 'page' | 'ticket' }
  annotations: { summary: string, description: string, runbook_url: string }
}

export interface Group {
  name: string
  interval?: string
  rules: Array<Recording | Alert>
}

/**
 * A figure from the database, which every instance reports: the highest one counts. Names the labels to keep, because Prometheus may
 * add any others to an instance (its node, the hash of its template).
 */
export function reported (gauge: string, ...labels: string[]): string {
  return `max by (${['namespace', ...labels].join(', ')}) (${gauge})`
}

/**
 * The same for a counter, which must never go down: the instance with the newest figure may have just gone, and the others read the
 * database once in 15 s.
 */
function reportedCounter (counter: string, ...labels: string[]): string {
  return reported(`max_over_time(${counter}{${service}}[5m])`, ...labels)
}

/** The share of the last five minutes in which an instance's thread was busy. */
export function loopUtilization (where: string): string {
  return `rate(nodejs_eventloop_utilization_summary_sum{${where}}[5m]) / rate(nodejs_eventloop_utilization_summary_count{${where}}[5m])`
}

export function groups (): Group[] {
  return [objectivesGroup(), volumesGroup(), stopsGroup(), stateGroup()]
}

/** Stops that finished: a killed process has no stop time. */
export const finished = 'outcome!="unfinished"'

/** Requests and their budget, per namespace: a burning staging must not page anybody for production. */
function objectivesGroup (): Group {
  const shares = windows.flatMap(window => [
    { record: `requests:failed:ratio_rate${window}`, expr: failedShare(window, { by: 'namespace', where: service }) },
    { record: `requests:slow:ratio_rate${window}`, expr: slowShare(window, { by: 'namespace', where: service }) }
  ])
  const alerts = [
    { name: 'Availability', series: 'requests:failed', objective: objectives.availability.objective, what: 'Requests fail (5xx)' },
    { name: 'Latency', series: 'requests:slow', objective: objectives.latency.objective, what: `Answers take longer than ${objectives.latency.withinS * 1_000} ms` }
  ].flatMap(({ name, series, objective, what }) => burns.map(({ times, long, short, severity, spends }) => alert({
    alert: `${name}BudgetBurns${times}Times`,
    expr: `${series}:ratio_rate${long} > ${times} * (1 - ${objective}) and ${series}:ratio_rate${short} > ${times} * (1 - ${objective})`,
    severity,
    summary: `${what}, ${times} times as often as the objective allows`,
    description: `{{ $value | humanizePercentage }} in the last ${long}, and still in the last ${short}. At this pace it spends ${spends}. The objective is ${objective * 100} % over ${objectives.window}.`,
    runbook: 'error-budget-burns'
  })))
  return { name: 'last-orders objectives', rules: [...shares, ...alerts] }
}

/** Unusual figures. The service promises nothing about them, so they are tickets. */
function volumesGroup (): Group {
  const placed = 'orders:placed:rate5m'
  const paid = 'orders:paid_share:ratio_rate1h'
  const alerts = [
    { name: 'OrdersUnusuallyFew', series: placed, beyond: '<', sign: '-', what: 'Fewer orders are placed than is usual' },
    { name: 'OrdersUnusuallyMany', series: placed, beyond: '>', sign: '+', what: 'More orders are placed than is usual' },
    { name: 'PaidShareUnusuallyLow', series: paid, beyond: '<', sign: '-', what: 'A smaller share of the orders is paid than is usual' }
  ].map(({ name, series, beyond, sign, what }) => alert({
    alert: name,
    // "and" means: beyond the wider of the two bands. (clamp_min takes only a number.)
    expr: [
      `${series} ${beyond} ${series}:usual ${sign} ${bands.deviations} * ${series}:deviation`,
      `${series} ${beyond} ${series}:usual * ${round(1 + (sign === '+' ? bands.share : -bands.share))}`,
      `${series}:weeks >= ${bands.weeksMin}`,
      `${placed}:usual > ${bands.ordersMinPerS}`
    ].join(' and '),
    for: '15m',
    severity: 'ticket',
    summary: what,
    description: `{{ $value | humanize }} is outside of the band around the median of the same minutes of the last ${bands.weeks} weeks. A holiday or a campaign does this, too.`,
    runbook: 'unusual-orders'
  }))
  return {
    name: 'last-orders volumes',
    rules: [
      { record: placed, expr: `sum by (namespace) (rate(orders_total{${service}, outcome="placed"}[5m]))` },
      // Without orders there is no share.
      { record: paid, expr: `sum by (namespace) (rate(orders_total{${service}, outcome="paid"}[1h])) / (sum by (namespace) (rate(orders_total{${service}, outcome="placed"}[1h])) > 0)` },
      { record: 'orders:value:rate5m', expr: `sum by (namespace, currency) (rate(orders_value_total{${service}}[5m]))` },
      ...usual(placed),
      ...usual(paid),
      ...alerts
    ]
  }
}

/** The median of the same time in earlier weeks, how many weeks are known, and the standard deviation a week ago. */
function usual (series: string): Recording[] {
  const weeks = Array.from({ length: bands.weeks }, (_, index) => `label_replace(${series} offset ${index + 1}w, "week", "${index + 1}", "", "")`).join(' or ')
  return [
    { record: `${series}:usual`, expr: `quantile without (week) (0.5, ${weeks})` },
    { record: `${series}:weeks`, expr: `count without (week) (${weeks})` },
    { record: `${series}:deviation`, expr: `stddev_over_time(${series}[1h] offset 1w)` }
  ]
}

/**
 * Stops, reported by the living instances: the table `stops` has the figures of processes that ended and cannot be scraped.
 *
 * Alerts on recent stops read the gauges of the last hour, because a new counter shows no increase.
 */
function stopsGroup (): Group {
  const unlikely = 'A lost node does this, too.'
  return {
    name: 'last-orders stops',
    rules: [
      { record: 'stops:total', expr: reportedCounter('stops_total', 'outcome', 'reason') },
      { record: 'stops:seconds:total', expr: reportedCounter('stops_seconds_total', 'phase') },
      { record: 'stops:requests:total', expr: reportedCounter('stops_requests_total', 'fate') },
      { record: 'stops:leaks:total', expr: reportedCounter('stops_leaks_total', 'kind') },
      { record: 'stops:latency_seconds:mean1h', expr: `sum by (namespace) (increase(stops:seconds:total[1h])) / (sum by (namespace) (increase(stops:total{${finished}}[1h])) > 0)` },
      { record: 'stops:requests_lost:ratio1h', expr: 'sum by (namespace) (increase(stops:requests:total{fate=~"abandoned|cut"}[1h])) / (sum by (namespace) (increase(stops:requests:total[1h])) > 0)' },
      alert({
        alert: 'StopAbandonedWork',
        expr: `${reported(`stops_recent{${service}, outcome="abandoned"}`)} > 0`,
        severity: 'page',
        summary: 'A stop abandoned work that it had begun',
        description: '{{ $value }} stops in the last hour ended at their deadline with requests or work under way. Clients that got no answer must send the same request again with the same key.',
        runbook: 'abandoned-work'
      }),
      alert({
        alert: 'StartWithoutFinish',
        expr: `${reported(`stops_recent{${service}, outcome="unfinished"}`)} > 0`,
        severity: 'ticket',
        summary: 'A process ended without a stop',
        description: `{{ $value }} in the last hour: killed, or out of memory. ${unlikely}`,
        runbook: 'abandoned-work'
      }),
      alert({
        alert: 'StopFailed',
        expr: `${reported(`stops_recent{${service}, outcome="failed"}`)} > 0`,
        severity: 'ticket',
        summary: 'A stop ended with an exit code other than 0',
        description: '{{ $value }} in the last hour: a hook or a pool that did not close, or a crash. The report of the stop names it.',
        runbook: 'drain-takes-too-long'
      }),
      alert({
        alert: 'StopNearDeadline',
        expr: `${reported(`stops_deadline_share_max{${service}}`)} > ${limits.stopDeadlineShare}`,
        severity: 'ticket',
        summary: 'A stop took nearly all of its deadline',
        description: 'It took {{ $value | humanizePercentage }} of its deadline. A longer one abandons work.',
        runbook: 'drain-takes-too-long'
      }),
      alert({
        alert: 'StopLeaks',
        expr: 'sum by (namespace, kind) (increase(stops:leaks:total[1h])) > 0',
        severity: 'ticket',
        summary: 'A process left something open after it had closed everything',
        description: '{{ $value | humanize }} {{ $labels.kind }} in the last hour. A leak keeps processes alive, or occupies connections of Postgres.',
        runbook: 'drain-takes-too-long'
      })
    ]
  }
}

/** Conditions that keep the service from its work, before or while the budget burns. */
function stateGroup (): Group {
  return {
    name: 'last-orders state',
    rules: [
      { record: 'outbox:oldest_event_age_seconds', expr: reported(`outbox_oldest_event_age_seconds{${service}}`) },
      { record: 'outbox:dead_events', expr: reported(`outbox_unpublished_events{${service}, state="dead"}`) },
      alert({
        alert: 'DeadEvents',
        expr: 'outbox:dead_events > 0',
        severity: 'ticket',
        summary: 'Events are dead',
        description: 'The relay gave {{ $value }} events up. It publishes neither them nor the later events of their orders until an operator decides.',
        runbook: 'dead-events'
      }),
      alert({
        alert: 'EventsWait',
        expr: `outbox:oldest_event_age_seconds > ${limits.eventAgeS}`,
        for: '5m',
        severity: 'page',
        summary: 'Events are not published',
        description: 'The oldest has waited for {{ $value | humanizeDuration }}. The service takes orders as before, but consumers do not learn of them.',
        runbook: 'dead-events'
      }),
      alert({
        alert: 'EventsWaitLonger',
        // A growing backlog will be too old in four hours; a shrinking one gets younger.
        expr: `predict_linear(outbox:oldest_event_age_seconds[30m], 4 * 3600) > 3600 and outbox:oldest_event_age_seconds > ${limits.eventAgeS / 5}`,
        for: '15m',
        severity: 'ticket',
        summary: 'Events arrive faster than they are published',
        description: 'At this pace the oldest event will have waited for {{ $value | humanizeDuration }} in four hours.',
        runbook: 'dead-events'
      }),
      alert({
        alert: 'PublisherAway',
        expr: `${reported(`publisher_breaker_open{${service}}`)} > 0`,
        for: '5m',
        severity: 'page',
        summary: 'The broker takes no events',
        description: 'Events wait, and the relay tries one at a time. It publishes the others by itself when the broker is back.',
        runbook: 'dead-events'
      }),
      { record: 'payments:oldest_unknown_age_seconds', expr: reported(`payments_oldest_unknown_age_seconds{${service}}`) },
      alert({
        alert: 'PaymentsUnknown',
        expr: `payments:oldest_unknown_age_seconds > ${limits.paymentAgeS}`,
        for: '5m',
        severity: 'page',
        summary: 'The outcome of a payment or a refund is unknown',
        description: 'It has been unknown for {{ $value | humanizeDuration }}. The settler goes on asking the gateway. Nothing is charged twice, and the order waits.',
        runbook: 'payments-unknown'
      }),
      alert({
        alert: 'RefundsFailed',
        expr: `sum by (namespace) (increase(gateway_answers_total{${service}, kind="refund", said="failed"}[1h])) > 0`,
        severity: 'ticket',
        summary: 'The gateway refused to give money back',
        description: '{{ $value | humanize }} in the last hour. The service does not ask again: a person has to return the money.',
        runbook: 'payments-unknown'
      }),
      alert({
        alert: 'OutcomesUnknown',
        expr: `sum by (namespace) (increase(problems_total{${service}, type="outcome-unknown"}[10m])) > 0`,
        for: '5m',
        severity: 'page',
        summary: 'Clients are told that the outcome of their order is unknown',
        description: '{{ $value | humanize }} in the last 10 minutes. The same request with the same key settles each.',
        runbook: 'outcome-unknown-rises'
      }),
      alert({
        alert: 'UncertainCommits',
        expr: `sum by (namespace) (increase(database_uncertain_commits_total{${service}}[1h])) > 0`,
        severity: 'page',
        summary: 'Postgres committed without its synchronous standby',
        description: '{{ $value | humanize }} commits in the last hour may not survive a failover.',
        runbook: 'failover'
      }),
      alert({
        alert: 'DatabaseNotReadable',
        expr: `${reported(`database_gauges_up{${service}}`)} == 0`,
        for: '2m',
        severity: 'page',
        summary: 'No instance can read from the database',
        description: 'Orders are refused or unknown, and figures about events and stops are missing.',
        runbook: 'failover'
      }),
      alert({
        alert: 'PoolStarved',
        expr: `min_over_time(database_pool_waiting_queries{${service}}[5m]) > 0`,
        for: '5m',
        severity: 'ticket',
        summary: 'Queries always wait for a connection',
        description: '{{ $labels.instance }} had {{ $value }} or more waiting for ten minutes.',
        runbook: 'saturation'
      }),
      alert({
        alert: 'EventLoopSaturated',
        expr: `${loopUtilization(service)} > ${limits.eventLoop}`,
        for: '10m',
        severity: 'ticket',
        summary: 'The event loop of an instance is saturated',
        description: '{{ $labels.instance }} was busy for {{ $value | humanizePercentage }} of the time. Requests queue before anything measures them.',
        runbook: 'saturation'
      }),
      alert({
        alert: 'ConfigurationsDiffer',
        // Instances change within some seconds of each other, and a roll-out takes some minutes.
        expr: `count by (namespace, environment) (count by (namespace, environment, hash) (config_info{${service}})) > 1`,
        for: '10m',
        severity: 'ticket',
        summary: 'Instances of one environment run with different central settings',
        description: '{{ $value }} configurations in {{ $labels.environment }}. One instance has refused or missed a change.',
        runbook: 'settings-refused'
      }),
      alert({
        alert: 'SettingsRefused',
        expr: `max by (namespace) (config_last_reload_successful{${service}} == bool 0) == 1`,
        for: '5m',
        severity: 'ticket',
        summary: 'Settings were changed and cannot be used',
        description: 'The service runs on with its current settings. /config and the log say what is wrong. A start would fail.',
        runbook: 'settings-refused'
      }),
      alert({
        alert: 'ConfigSourceAway',
        expr: `${reported(`config_source_up{${service}}`)} == 0`,
        for: '15m',
        severity: 'ticket',
        summary: 'No instance reaches the central settings',
        description: 'The service runs on with its current settings. A change does not reach it, and a start without a copy (CONFIG_CACHE_FILE) fails.',
        runbook: 'settings-refused'
      }),
      alert({
        alert: 'NotScraped',
        // Each namespace that was seen in the last hour; if Prometheus has just started, any.
        expr: `count by (namespace) (count_over_time(build_info{${service}}[1h])) unless count by (namespace) (build_info{${service}}) or absent(build_info{${service}})`,
        for: '5m',
        severity: 'page',
        summary: 'Prometheus sees no instance',
        description: 'None runs in {{ $labels.namespace }}, or Prometheus cannot reach the ops ports. No other alert of this namespace can fire.',
        runbook: 'not-scraped'
      })
    ]
  }
}

interface AlertOf extends Pick<Alert, 'alert' | 'expr' | 'for'> {
  severity: Alert['labels']['severity']
  summary: string
  description: string
  /** A file of docs/runbooks, without `.md`. */
  runbook: string
}

function alert ({ alert, expr, for: lasting, severity, summary, description, runbook }: AlertOf): Alert {
  return {
    alert,
    expr,
    ...lasting !== undefined && { for: lasting },
    labels: { severity },
    annotations: { summary, description, runbook_url: `${runbooks}/${runbook}.md` }
  }
}
