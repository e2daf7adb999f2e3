import { failedShare, objectives, matching, releases, round, slowShare, counted } from './objectives.ts'

interface Metric {
  name: string
  successCondition: string
  failureCondition: string
  query: string
}

interface AnalysisTemplate {
  apiVersion: 'argoproj.io/v1alpha1'
  kind: 'AnalysisTemplate'
  metadata: { name: string }
  spec: object
}

const namespace = 'namespace="{{args.namespace}}"'
const pods = (revision: 'revision' | 'stable'): string => `pod=~"last-orders-{{args.${revision}}}-.*"`

/**
 * The analyses of Argo Rollouts while a revision takes over. A result between the two conditions, an empty one (too few requests)
 * and NaN are neither success nor failure: the rollout pauses for a person.
 */
export function analyses (): Record<'slo' | 'against-stable', { reason: string, template: AnalysisTemplate }> {
  return {
    slo: {
      reason: 'The new revision against the objectives of deploy/observability/objectives.ts.',
      template: template('last-orders-slo', ['revision'], [
        {
          name: 'availability',
          ...between(1 - objectives.availability.objective, releases.revision.failsFrom.errors * (1 - objectives.availability.objective)),
          query: provided(failedShare('5m', { where: of('revision') }), 'revision')
        },
        {
          name: 'latency',
          ...between(1 - objectives.latency.objective, releases.revision.failsFrom.latency * (1 - objectives.latency.objective)),
          query: provided(slowShare('5m', { where: of('revision') }), 'revision')
        }
      ])
    },
    'against-stable': {
      reason: 'The new revision against the one beside it, under the same load at the same time: if both are slow, the release is not at fault.',
      template: template('last-orders-against-stable', ['revision', 'stable'], [
        {
          // How much higher the share of 5xx is with the new revision.
          name: 'more-errors',
          ...between(1 - objectives.availability.objective, releases.revision.failsFrom.errors * (1 - objectives.availability.objective)),
          query: provided(`(${failedShare('5m', { where: of('revision') })}) - (${failedShare('5m', { where: of('stable') })})`, 'revision', 'stable')
        },
        {
          name: 'slower',
          ...between(releases.revision.slowerPasses, releases.revision.slowerFails),
          query: provided(`${p99('revision')} / ${p99('stable')}`, 'revision', 'stable')
        }
      ])
    }
  }
}

function template (name: string, revisions: string[], metrics: Metric[]): AnalysisTemplate {
  return {
    apiVersion: 'argoproj.io/v1alpha1',
    kind: 'AnalysisTemplate',
    metadata: { name },
    spec: {
      args: [{ name: 'prometheus', value: 'http://prometheus.monitoring.svc:9090' }, { name: 'namespace' }, ...revisions.map(name => ({ name }))],
      metrics: metrics.map(({ query, name, ...conditions }) => ({
        name,
        initialDelay: '5m',
        interval: '1m',
        count: 10,
        inconclusiveLimit: 3,
        ...conditions,
        provider: { prometheus: { address: '{{args.prometheus}}', query } }
      }))
    }
  }
}

function of (revision: 'revision' | 'stable'): string {
  return matching(namespace, pods(revision))
}

function between (passes: number, fails: number): Pick<Metric, 'successCondition' | 'failureCondition'> {
  return { successCondition: `len(result) > 0 && result[0] <= ${round(passes)}`, failureCondition: `len(result) > 0 && result[0] > ${round(fails)}` }
}

/** Empty if a revision had too few requests to prove anything. */
function provided (expr: string, ...revisions: Array<'revision' | 'stable'>): string {
  return [`(${expr})`, ...revisions.map(revision => `(sum(rate(http_server_request_duration_seconds_count{${matching(of(revision), counted)}}[5m])) > ${releases.requestsMinPerS})`)].join(' and on () ')
}

function p99 (revision: 'revision' | 'stable'): string {
  return `histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket{${matching(of(revision), counted)}}[5m])))`
}
