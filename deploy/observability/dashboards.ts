import * as common from '@grafana/grafana-foundation-sdk/common'
import { AnnotationQueryBuilder, DashboardBuilder, DashboardCursorSync, DatasourceVariableBuilder, FieldColorBuilder, FieldColorModeId, MappingType, QueryVariableBuilder, RowBuilder, ThresholdsConfigBuilder, ThresholdsMode, VariableRefresh, VariableSort, type Dashboard, type ValueMapping } from '@grafana/grafana-foundation-sdk/dashboard'
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus'
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat'
import { PanelBuilder as StateTimelineBuilder } from '@grafana/grafana-foundation-sdk/statetimeline'
import { PanelBuilder as TimeSeriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries'
import { bands, burns, counted, failed, limits, objectives, service as ours } from './objectives.ts'
import { finished, loopUtilization } from './rules.ts'

type Query = [expr: string, legend: string]

// eslint-disable-next-line no-template-curly-in-string -- Grafana's own variable
const source = { type: 'prometheus', uid: '${source}' }
/** Selectors for the namespace at the top of a dashboard: for recorded series, and for scraped ones. */
const there = 'namespace=~"$namespace"'
const here = `${ours}, ${there}`
/** The colours of a stop, as on the drain's own page. A clean stop is never red. */
const colours = { serving: 'green', draining: 'yellow', closing: 'orange', closed: 'blue' }

/** Every dashboard, by file name. */
export function dashboards (): Record<string, Dashboard> {
  return { service: service(), business: business(), stops: stops() }
}

/** Requests, errors and duration; the error budget; utilization, saturation and errors of the service's resources. */
function service (): Dashboard {
  const requests = `http_server_request_duration_seconds_count{${here}, ${counted}}`
  const bucket = `http_server_request_duration_seconds_bucket{${here}, ${counted}}`
  const quantile = (share: number): string => `histogram_quantile(${share}, sum by (le) (rate(${bucket}[$__rate_interval])))`
  return board('service', 'Service', 'Requests, errors and duration; the error budget; what the service uses.')
    .withRow(new RowBuilder('Health'))
    .withPanel(stat('Error budget left', 'Availability over 30 days. Below 0 the objective is missed.', [
      `1 - (sum(increase(http_server_request_duration_seconds_count{${here}, ${counted}, ${failed}}[${objectives.window}])) / sum(increase(${requests}[${objectives.window}]))) / (1 - ${objectives.availability.objective})`, ''
    ], 'percentunit', [[null, 'red'], [0, 'orange'], [0.1, 'green']]))
    .withPanel(stat('Burn rate', `Over the last hour. From ${burns[0].times} on it pages somebody.`, [`max(requests:failed:ratio_rate1h{${there}}) / (1 - ${objectives.availability.objective})`, ''], 'none', [[null, 'green'], [1, 'orange'], [burns[1].times, 'red']]))
    .withPanel(stat('Slow answers', `Longer than ${objectives.latency.withinS * 1_000} ms, of the last hour. The objective allows 1 %.`, [`max(requests:slow:ratio_rate1h{${there}})`, ''], 'percentunit', [[null, 'green'], [1 - objectives.latency.objective, 'red']]))
    .withPanel(stat('Instances', 'Seen by Prometheus, by version.', [`count by (version) (build_info{${here}})`, '{{version}}'], 'none', [[null, 'text']]))
    .withRow(new RowBuilder('Requests'))
    .withPanel(lines('Requests', 'Answered, by route.', [[`sum by (http_request_method, http_route) (rate(${requests}[$__rate_interval])) > 0`, '{{http_request_method}} {{http_route}}']], 'reqps'))
    .withPanel(lines('Failed', 'Share of all requests, by error type.', [[`sum by (error_type) (rate(http_server_request_duration_seconds_count{${here}, ${counted}, ${failed}}[$__rate_interval])) / scalar(sum(rate(${requests}[$__rate_interval])))`, '{{error_type}}']], 'percentunit'))
    .withPanel(lines('Duration', 'From the head of the request to the end of the answer.', [[quantile(0.5), 'p50'], [quantile(0.9), 'p90'], [quantile(0.99), 'p99']], 's'))
    .withPanel(lines('Problems', 'Answers that are a problem, by type. 4xx are faults of clients.', [[`sum by (type) (rate(problems_total{${here}}[$__rate_interval])) > 0`, '{{type}}']], 'reqps'))
    .withRow(new RowBuilder('From the intake to the commit'))
    .withPanel(lines('Waiting', 'Orders that wait for a batch, and queries that wait for a connection.', [[`sum(intake_queued_orders{${here}})`, 'orders'], [`sum(database_pool_waiting_queries{${here}})`, 'queries']], 'none'))
    .withPanel(lines('Duration of a step', 'Median and 99th percentile.', [
      ...histogram('intake_wait_duration_seconds', 'wait for a batch'),
      ...histogram('intake_commit_duration_seconds', 'commit'),
      ...histogram('db_client_connection_wait_duration_seconds', 'wait for a connection')
    ], 's'))
    .withPanel(lines('Orders in a batch', 'A busier database makes larger batches.', [[`sum(rate(intake_batch_size_sum{${here}}[$__rate_interval])) / sum(rate(intake_batch_size_count{${here}}[$__rate_interval]))`, 'mean']], 'none'))
    .withPanel(lines('Writes that failed', 'By what they left behind. Uncertain: committed without the synchronous standby.', [
      [`sum by (failure) (rate(database_write_failures_total{${here}}[$__rate_interval])) > 0`, '{{failure}}'],
      [`sum(rate(database_uncertain_commits_total{${here}}[$__rate_interval])) > 0`, 'uncertain']
    ], 'cps'))
    .withRow(new RowBuilder('What it uses'))
    .withPanel(lines('Event loop', `Share of the time that it is busy. Above ${limits.eventLoop * 100} % requests queue before anything measures them.`, [[loopUtilization(here), '{{instance}}']], 'percentunit'))
    .withPanel(lines('CPU', 'Cores.', [[`rate(process_cpu_seconds_total{${here}}[$__rate_interval])`, '{{instance}}']], 'none'))
    .withPanel(lines('Memory', 'Resident.', [[`process_resident_memory_bytes{${here}}`, '{{instance}}']], 'bytes'))
    .withPanel(lines('Connections to Postgres', 'Open ones, and idle ones.', [[`sum(database_pool_open_connections{${here}})`, 'open'], [`sum(database_pool_idle_connections{${here}})`, 'idle']], 'none'))
    .build()
}

/** Orders, their value, whether they are paid, and whether their events are published. */
function business (): Dashboard {
  const wide = (series: string, sign: '+' | '-'): string => `${series}:usual{${there}} ${sign} clamp_min(${bands.deviations} * ${series}:deviation{${there}}, 0)`
  const outcome = (name: string): string => `sum(rate(orders_total{${here}, outcome="${name}"}[$__rate_interval]))`
  return board('business', 'Business', 'Orders by outcome, their value, the share that is paid, and what is usual.')
    .withRow(new RowBuilder('Today'))
    .withPanel(stat('Orders', 'Placed in 24 hours.', [`sum(increase(orders_total{${here}, outcome="placed"}[24h]))`, ''], 'none', [[null, 'text']]))
    .withPanel(stat('Value', 'Of the orders placed in 24 hours, in minor units, by currency.', [`sum by (currency) (increase(orders_value_total{${here}}[24h]))`, '{{currency}}'], 'none', [[null, 'text']]))
    .withPanel(stat('Paid', 'Of the orders placed in the last hour.', [`max(orders:paid_share:ratio_rate1h{${there}})`, ''], 'percentunit', [[null, 'text']]))
    .withPanel(stat('Dead events', 'Not published until an operator decides.', [`max(outbox:dead_events{${there}})`, ''], 'none', [[null, 'green'], [1, 'red']]))
    .withRow(new RowBuilder('Orders'))
    .withPanel(lines('Placed, and what is usual', `The median of the same minutes of the last ${bands.weeks} weeks, and ${bands.deviations} standard deviations around it.`, [
      [`orders:placed:rate5m{${there}}`, 'placed'], [`orders:placed:rate5m:usual{${there}}`, 'usual'], [wide('orders:placed:rate5m', '-'), 'lower'], [wide('orders:placed:rate5m', '+'), 'upper']
    ], 'cps'))
    .withPanel(lines('By outcome', 'Outcomes of requests for an order, and of orders.', [[`sum by (outcome) (rate(orders_total{${here}}[$__rate_interval])) > 0`, '{{outcome}}']], 'cps'))
    .withPanel(lines('Paid share, and what is usual', 'Of the orders of an hour.', [
      [`orders:paid_share:ratio_rate1h{${there}}`, 'paid'], [`orders:paid_share:ratio_rate1h:usual{${there}}`, 'usual'], [wide('orders:paid_share:ratio_rate1h', '-'), 'lower'], [wide('orders:paid_share:ratio_rate1h', '+'), 'upper']
    ], 'percentunit'))
    .withPanel(lines('Value', 'In minor units, by currency.', [[`orders:value:rate5m{${there}}`, '{{currency}}']], 'none'))
    .withPanel(lines('Out of stock', 'Orders that were refused because there was not enough.', [[outcome('out-of-stock'), 'out of stock']], 'cps'))
    .withRow(new RowBuilder('Money'))
    .withPanel(lines('The gateway said', 'Payments and refunds that it was asked for.', [[`sum by (kind, said) (rate(gateway_answers_total{${here}}[$__rate_interval])) > 0`, '{{kind}} {{said}}']], 'cps'))
    .withPanel(lines('Open', 'Payments and refunds that wait for its answer.', [[`max by (kind) (payments_unsettled{${here}})`, '{{kind}}']], 'none'))
    .withPanel(lines('Unknown longest', 'Age of the oldest payment or refund whose outcome is unknown.', [[`payments:oldest_unknown_age_seconds{${there}}`, 'age']], 's'))
    .withRow(new RowBuilder('Events'))
    .withPanel(lines('Oldest event', 'How long the next one to be published has waited.', [[`outbox:oldest_event_age_seconds{${there}}`, 'age']], 's'))
    .withPanel(lines('Published', 'Attempts by how they ended.', [[`sum by (outcome) (rate(outbox_events_total{${here}}[$__rate_interval]))`, '{{outcome}}']], 'cps'))
    .withPanel(lines('Not published', 'Waiting, and dead.', [[`max by (state) (outbox_unpublished_events{${here}})`, '{{state}}']], 'none'))
    .build()
}

/** The life of each process, and its stop: what a deploy does to customers. */
function stops (): Dashboard {
  const lost = 'fate=~"abandoned|cut"'
  return board('stops', 'Stops', 'The life of each process over deploys; how long stops take, what they lose, what they leave behind.')
    .withRow(new RowBuilder('Is anything lost?'))
    .withPanel(stat('Abandoned or cut', 'Requests in stops, 24 hours.', [`sum(increase(stops:requests:total{${there}, ${lost}}[24h]))`, ''], 'none', [[null, 'green'], [1, 'red']]))
    .withPanel(stat('Loss rate', 'Share of the requests under way in stops, 24 hours.', [`sum(increase(stops:requests:total{${there}, ${lost}}[24h])) / sum(increase(stops:requests:total{${there}}[24h]))`, ''], 'percentunit', [[null, 'green'], [0.000001, 'red']]))
    .withPanel(stat('Stop latency', 'Mean of 24 hours, from the signal to the exit.', [`sum(increase(stops:seconds:total{${there}}[24h])) / sum(increase(stops:total{${there}, ${finished}}[24h]))`, ''], 's', [[null, 'text']]))
    .withPanel(stat('Longest stop', 'Of the last hour, as a share of its deadline.', [`max(stops_deadline_share_max{${here}})`, ''], 'percentunit', [[null, 'green'], [limits.stopDeadlineShare, 'red']]))
    .withRow(new RowBuilder('Lives'))
    .withPanel(new StateTimelineBuilder()
      .title('State of each process').description('Scraped, so a short stop may be missing here; the figures below have every one.')
      .datasource(source).span(24).height(8).mergeValues(true).showValue(common.VisibilityMode.Never).fillOpacity(80)
      .mappings(stateMappings())
      .withTarget(query([`max by (instance) (drain_state{${here}, state="serving"} * 1 or drain_state{${here}, state="draining"} * 2 or drain_state{${here}, state="closing"} * 3 or drain_state{${here}, state="closed"} * 4)`, '{{instance}}'])))
    .withPanel(lines('Instances by version', 'In a deploy, one line replaces the other.', [[`count by (version) (build_info{${here}})`, '{{version}}']], 'none'))
    .withPanel(lines('In flight', 'Requests begun and not ended, of each process.', [[`http_server_active_requests{${here}}`, '{{instance}}']], 'none'))
    .withRow(new RowBuilder('Stops, from the database'))
    .withPanel(lines('Stops', 'Stops of the last hour, by outcome.', [[`max by (outcome) (stops_recent{${here}})`, '{{outcome}}']], 'none'))
    .withPanel(lines('Time in each phase', 'Mean of a stop.', [[`sum by (phase) (increase(stops:seconds:total{${there}}[1h])) / scalar(sum(increase(stops:total{${there}, ${finished}}[1h])) > 0)`, '{{phase}}']], 's'))
    .withPanel(lines('Requests of stops, by fate', 'Completed and refused are what a stop should do.', [[`sum by (fate) (increase(stops:requests:total{${there}}[1h]))`, '{{fate}}']], 'none'))
    .withPanel(lines('Loss rate', 'Abandoned or cut, of all requests of stops.', [[`stops:requests_lost:ratio1h{${there}}`, 'lost']], 'percentunit'))
    .withPanel(lines('Left open', 'What a process left open after it had closed everything.', [[`sum by (kind) (increase(stops:leaks:total{${there}}[1h]))`, '{{kind}}']], 'none'))
    .withPanel(lines('Longest stop', 'Of the last hour.', [[`max(stops_longest_seconds{${here}})`, 'longest'], [`max(stops:latency_seconds:mean1h{${there}})`, 'mean']], 's'))
    .build()
}

function board (uid: string, title: string, description: string): DashboardBuilder {
  return new DashboardBuilder(`Last Orders: ${title}`)
    .uid(`last-orders-${uid}`)
    .description(description)
    .tags(['last-orders'])
    .readonly()
    .refresh('15s')
    .time({ from: 'now-1h', to: 'now' })
    .timezone('browser')
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(new DatasourceVariableBuilder('source').label('Prometheus').type('prometheus'))
    .withVariable(new QueryVariableBuilder('namespace')
      .label('Namespace').datasource(source).query({ query: `label_values(build_info{${ours}}, namespace)`, refId: 'namespaces' })
      // If Prometheus knows no namespaces, "all" selects everything.
      .includeAll(true).allValue('.*').refresh(VariableRefresh.OnTimeRangeChanged).sort(VariableSort.AlphabeticalAsc))
    // A version that did not exist ten minutes ago.
    .annotation(new AnnotationQueryBuilder()
      .name('Deploys').datasource(source).enable(true).iconColor('blue')
      .expr(`count by (version) (build_info{${here}}) unless count by (version) (build_info{${here}} offset 10m)`))
}

function query ([expr, legend]: Query): DataqueryBuilder {
  return new DataqueryBuilder().datasource(source).expr(expr).legendFormat(legend).format(PromQueryFormat.TimeSeries)
}

function lines (title: string, description: string, queries: Query[], unit: string): TimeSeriesBuilder {
  const panel = new TimeSeriesBuilder().title(title).description(description).datasource(source).unit(unit).min(0).span(12).height(8)
    .fillOpacity(8).showPoints(common.VisibilityMode.Never)
  for (const each of queries) panel.withTarget(query(each))
  return panel
}

function stat (title: string, description: string, asked: Query, unit: string, steps: Array<[from: number | null, colour: string]>): StatBuilder {
  return new StatBuilder().title(title).description(description).datasource(source).unit(unit).span(6).height(5)
    .colorScheme(new FieldColorBuilder().mode(FieldColorModeId.Thresholds))
    .thresholds(new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(steps.map(([value, color]) => ({ value, color }))))
    .withTarget(query(asked))
}

/** Median and 99th percentile. */
function histogram (name: string, what: string): Query[] {
  return [0.5, 0.99].map(share => [`histogram_quantile(${share}, sum by (le) (rate(${name}_bucket{${here}}[$__rate_interval])))`, `${what}, p${share * 100}`])
}

function stateMappings (): ValueMapping[] {
  const options = Object.entries(colours).map(([text, color], index) => [String(index + 1), { text, color, index }])
  return [{ type: MappingType.ValueToText, options: Object.fromEntries(options) }]
}
