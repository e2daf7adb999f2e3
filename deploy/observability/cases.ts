import { bands, limits, objectives, service } from './objectives.ts'

/** A case of promtool: series, and when to look at the alert. */
export interface Case {
  /** The interval between two values of a series. Default: 1m. */
  interval?: string
  /** The interval between two evaluations of the rules; a longer one saves time over days. Default: 1m. */
  evaluated?: string
  /** When the alert is looked at. */
  at: string
  /** https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/#series */
  series: Record<string, string>
}

const route = `${service}, namespace="shop", http_request_method="POST", http_route="/orders"`
const count = (status: string): string => `http_server_request_duration_seconds_count{${route}, http_response_status_code="${status}"}`
const bucket = (status: string): string => `http_server_request_duration_seconds_bucket{${route}, http_response_status_code="${status}", le="${objectives.latency.withinS}"}`
const instance = `${service}, namespace="shop", instance="one"`

/** 500 requests a minute for three days, `failing` of which fail. */
function requests (failing: number): Case {
  return { evaluated: '12h', at: '3d', series: { [count('201')]: `0+${500 - failing}x4330`, [count('503')]: `0+${failing}x4330` } }
}

/** 500 answers a minute for three days, `slow` of which are slow. */
function answers (slow: number): Case {
  return { evaluated: '12h', at: '3d', series: { [count('201')]: '0+500x4330', [bucket('201')]: `0+${500 - slow}x4330` } }
}

/** The rule's own series: four weeks with `before` orders a second, then `now` orders a second. */
function volume (now: number, { before = 1, weeks = bands.weeks } = {}): Case {
  const hours = weeks * 7 * 24
  // The series varies by a tenth, like a real one.
  const usual = Array.from({ length: hours / 2 }, () => `${before} ${(before * 1.1).toFixed(3)}`).join(' ')
  return { interval: '1h', evaluated: '2h', at: `${hours + 4}h`, series: { 'orders:placed:rate5m{namespace="shop"}': `${usual} ${now}x6` } }
}

function paidShare (now: number): Case {
  const { at, series } = volume(1)
  const [usual = ''] = Object.values(series)
  return { interval: '1h', evaluated: '2h', at, series: { ...series, 'orders:paid_share:ratio_rate1h{namespace="shop"}': usual.replace(/ 1x6$/, ` ${now}x6`).replaceAll('1.100', '0.950') } }
}

/** A gauge that two instances report with the same value. */
function gauge (name: string, value: number, labels = ''): Case {
  const matchers = (pod: string): string => [`${service}, namespace="shop", instance="${pod}", node="${pod}"`, labels].filter(text => text !== '').join(', ')
  return { at: '20m', series: { [`${name}{${matchers('one')}}`]: `${value}x20`, [`${name}{${matchers('two')}}`]: `${value}x20` } }
}

/** A counter that began at 0, and rose by `by` five minutes before the alert is looked at. */
function counter (name: string, by: number, labels = ''): Case {
  return { at: '20m', series: { [`${name}{${[instance, labels].filter(text => text !== '').join(', ')}}`]: `0x15 ${by}x10` } }
}

/** For each alert a case in which it fires, and a similar one in which it does not. Burn rates have times of their own. */
export const cases: Record<string, { fires: Case, quiet: Case }> = {
  // 0.1 % is allowed: half a request of 500.
  'AvailabilityBudgetBurns14.4Times': { fires: requests(8), quiet: requests(7) },
  AvailabilityBudgetBurns6Times: { fires: requests(4), quiet: requests(2) },
  AvailabilityBudgetBurns3Times: { fires: requests(2), quiet: requests(1) },
  AvailabilityBudgetBurns1Times: { fires: requests(1), quiet: requests(0) },
  // 1 % is allowed: five answers of 500.
  'LatencyBudgetBurns14.4Times': { fires: answers(80), quiet: answers(70) },
  LatencyBudgetBurns6Times: { fires: answers(40), quiet: answers(20) },
  LatencyBudgetBurns3Times: { fires: answers(20), quiet: answers(10) },
  LatencyBudgetBurns1Times: { fires: answers(10), quiet: answers(4) },
  OrdersUnusuallyFew: { fires: volume(0.2), quiet: volume(0.75) },
  OrdersUnusuallyMany: { fires: volume(2), quiet: volume(1.3) },
  PaidShareUnusuallyLow: { fires: paidShare(0.2), quiet: paidShare(0.9) },
  StopAbandonedWork: { fires: gauge('stops_recent', 1, 'outcome="abandoned"'), quiet: gauge('stops_recent', 0, 'outcome="abandoned"') },
  StartWithoutFinish: { fires: gauge('stops_recent', 1, 'outcome="unfinished"'), quiet: gauge('stops_recent', 9, 'outcome="clean"') },
  StopFailed: { fires: gauge('stops_recent', 1, 'outcome="failed"'), quiet: gauge('stops_recent', 9, 'outcome="clean"') },
  StopNearDeadline: { fires: gauge('stops_deadline_share_max', 0.9), quiet: gauge('stops_deadline_share_max', 0.5) },
  StopLeaks: { fires: counter('stops_leaks_total', 1, 'kind="sockets"'), quiet: counter('stops_leaks_total', 0, 'kind="sockets"') },
  DeadEvents: { fires: gauge('outbox_unpublished_events', 1, 'state="dead"'), quiet: gauge('outbox_unpublished_events', 50_000, 'state="pending"') },
  EventsWait: { fires: gauge('outbox_oldest_event_age_seconds', limits.eventAgeS + 1), quiet: gauge('outbox_oldest_event_age_seconds', limits.eventAgeS) },
  EventsWaitLonger: {
    fires: { at: '55m', series: { [`outbox_oldest_event_age_seconds{${instance}}`]: '0+30x60' } },
    // The same age, but the backlog shrinks.
    quiet: { at: '55m', series: { [`outbox_oldest_event_age_seconds{${instance}}`]: '1800-30x60' } }
  },
  PublisherAway: { fires: gauge('publisher_breaker_open', 1), quiet: gauge('publisher_breaker_open', 0) },
  PaymentsUnknown: { fires: gauge('payments_oldest_unknown_age_seconds', limits.paymentAgeS + 1), quiet: gauge('payments_oldest_unknown_age_seconds', limits.paymentAgeS) },
  RefundsFailed: { fires: counter('gateway_answers_total', 1, 'kind="refund", said="failed"'), quiet: counter('gateway_answers_total', 1, 'kind="refund", said="refunded"') },
  OutcomesUnknown: {
    fires: { at: '20m', series: { [`problems_total{${instance}, type="outcome-unknown"}`]: '0x5 0+1x20' } },
    quiet: { at: '20m', series: { [`problems_total{${instance}, type="out-of-stock"}`]: '0x5 0+1x20' } }
  },
  UncertainCommits: { fires: counter('database_uncertain_commits_total', 1), quiet: counter('database_uncertain_commits_total', 0) },
  // Quiet if only one of two instances cannot read.
  DatabaseNotReadable: { fires: gauge('database_gauges_up', 0), quiet: { at: '20m', series: { [`database_gauges_up{${instance}}`]: '0x20', [`database_gauges_up{${service}, namespace="shop", instance="two"}`]: '1x20' } } },
  PoolStarved: {
    fires: gauge('database_pool_waiting_queries', 3),
    quiet: { at: '20m', series: { [`database_pool_waiting_queries{${instance}}`]: '3 0 3 3 0 3 3 0 3 3 0 3 3 0 3 3 0 3 3 0 3' } }
  },
  EventLoopSaturated: { fires: loop(0.95), quiet: loop(0.5) },
  // Other namespaces, and other services with the same name of a metric, do not count.
  ConfigurationsDiffer: {
    fires: { at: '20m', series: { [`config_info{${instance}, environment="shop", hash="one"}`]: '1x20', [`config_info{${instance}, pod="other", environment="shop", hash="two"}`]: '1x20' } },
    quiet: { at: '20m', series: { [`config_info{${instance}, environment="shop", hash="one"}`]: '1x20', [`config_info{${instance}, pod="other", environment="shop", hash="one"}`]: '1x20', [`config_info{${service}, namespace="other", environment="bar", hash="two"}`]: '1x20' } }
  },
  SettingsRefused: {
    fires: { at: '10m', series: { [`config_last_reload_successful{${instance}}`]: '0x10', [`config_last_reload_successful{${instance}, pod="other"}`]: '1x10' } },
    quiet: { at: '10m', series: { [`config_last_reload_successful{${instance}}`]: '1x10' } }
  },
  // Quiet if only one of two instances does not reach the source.
  ConfigSourceAway: { fires: gauge('config_source_up', 0), quiet: { at: '20m', series: { [`config_source_up{${instance}}`]: '0x20', [`config_source_up{${service}, namespace="shop", instance="two"}`]: '1x20' } } },
  NotScraped: {
    fires: { at: '25m', series: { [`build_info{${instance}}`]: '1x10', [`build_info{${service}, namespace="other"}`]: '1x25', 'build_info{job="another", namespace="shop"}': '1x25' } },
    quiet: { at: '25m', series: { [`build_info{${instance}}`]: '1x25' } }
  }
}

function loop (utilization: number): Case {
  return { at: '20m', series: { [`nodejs_eventloop_utilization_summary_sum{${instance}}`]: `0+${utilization * 60}x20`, [`nodejs_eventloop_utilization_summary_count{${instance}}`]: '0+60x20' } }
}
