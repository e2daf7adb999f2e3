import { parser } from '@prometheus-io/lezer-promql'
import t from 'tap'
import { pino } from 'pino'
import { buildOps } from '../../ops.ts'
import { startApp, type RunningApp } from '../../test/app.ts'
import { samplesOf } from '../../test/exposition.ts'
import { analyses } from '../observability/analyses.ts'
import { dashboards } from '../observability/dashboards.ts'
import { failedShare, slowShare } from '../observability/objectives.ts'
import { groups } from '../observability/rules.ts'

/** What a query uses: the metric, the labels of its matchers, and the labels that it groups by. */
interface Asked {
  metric: string
  matchers: Array<[label: string, value: string]>
  labels: string[]
}

/** Prometheus adds these to every series. */
const ofTarget = new Set(['namespace', 'pod', 'instance', 'job', 'alertname', 'alertstate'])
const recorded = new Set(groups().flatMap(({ rules }) => rules).flatMap(rule => 'record' in rule ? [rule.record] : []))

t.test('the service exports every metric and label that rules, panels, analyses and the gate name, even while it drains', async t => {
  const scraped = await scrape(t)
  for (const [where, query] of queries()) {
    const { faults, asked } = read(query)
    t.strictSame(faults, [], `${where}: ${query}`)
    for (const { metric, matchers, labels } of asked) {
      if (recorded.has(metric)) continue
      const series = scraped.get(metric)
      t.ok(series, `${where}: the service has ${metric}`)
      for (const [label, value] of matchers) t.ok(series?.some(known => known[label] === value), `${where}: ${metric} has ${label}="${value}"`)
      for (const label of labels) t.ok(series?.some(known => label in known), `${where}: ${metric} has a label ${label}`)
    }
  }
})

t.test('the check of queries finds a metric and a label that no scrape has', async t => {
  const { asked } = read('sum by (outcome) (rate(orders_totals{outcome="placed", namespace=~"$namespace"}[5m]))')
  t.strictSame(asked, [{ metric: 'orders_totals', matchers: [['outcome', 'placed']], labels: ['outcome'] }])
  t.not(read('sum(rate(x[5m])').faults.length, 0, 'a query with a fault')
})

function queries (): Array<[where: string, query: string]> {
  const ofRules = groups().flatMap(({ rules }) => rules).map((rule): [string, string] => ['record' in rule ? rule.record : rule.alert, rule.expr])
  const ofPanels = Object.entries(dashboards()).flatMap(([name, dashboard]) => (dashboard.panels ?? []).flatMap(panel => 'targets' in panel
    ? (panel.targets ?? []).map((target): [string, string] => [`${name}, ${panel.title ?? ''}`, (target as { expr?: string }).expr ?? ''])
    : []))
  const ofAnalyses = Object.values(analyses()).map(({ template }): [string, string[]] => [template.metadata.name, JSON.stringify(template).match(/"query":"(?:[^"\\]|\\.)*"/g) ?? []])
    .flatMap(([name, all]) => all.map((text): [string, string] => [name, (JSON.parse(`{${text}}`) as { query: string }).query]))
  return [...ofRules, ...ofPanels, ...ofAnalyses, ['the gate', failedShare('30d')], ['the gate', slowShare('30d')]]
}

/** Parses with PromQL's own grammar. Values that Grafana and Argo Rollouts fill in count as plain text. */
function read (query: string): { faults: string[], asked: Asked[] } {
  const text = query.replaceAll(/\{\{args\.[a-z-]+\}\}/g, 'value').replaceAll('$__rate_interval', '1m').replaceAll('$namespace', 'value')
  const faults: string[] = []
  const asked: Asked[] = []
  const grouping: Array<{ until: number, labels: string[] }> = []
  parser.parse(text).iterate({
    enter ({ type, name, from, to, node }) {
      if (type.isError) faults.push(`at ${from}: ${text.slice(from, from + 40)}`)
      if (name === 'AggregateExpr') {
        const modifier = node.getChild('AggregateModifier')
        const by = modifier !== null && text.slice(modifier.from, modifier.to).startsWith('by') ? /\((.*)\)/.exec(text.slice(modifier.from, modifier.to))?.[1] ?? '' : ''
        grouping.push({ until: to, labels: by.split(',').map(label => label.trim()).filter(label => label !== '' && !ofTarget.has(label) && label !== 'week') })
      }
      if (name !== 'VectorSelector') return
      const selector = text.slice(from, to)
      const matchers = [...selector.matchAll(/(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"/g)].filter(([, label = '']) => !ofTarget.has(label))
      // Only the innermost grouping: an outer one groups the labels that the inner one has kept.
      const inner = grouping.filter(({ until }) => from < until).at(-1)
      asked.push({
        metric: /^[\w:]+/.exec(selector)?.[0] ?? '',
        matchers: matchers.flatMap(([, label = '', operator, value = '']): Array<[string, string]> => operator === '=' ? [[label, value]] : []),
        labels: [...new Set([...inner?.labels ?? [], ...matchers.flatMap(([, label = '', operator]) => operator === '=' ? [] : [label])])]
      })
    }
  })
  return { faults, asked }
}

/** The labels of each series that appeared while two instances served and one of them stopped. */
async function scrape (t: Parameters<typeof startApp>[0]): Promise<Map<string, Array<Record<string, string>>>> {
  const seen = new Map<string, Array<Record<string, string>>>()
  const one = await startApp(t, { central: 'none' })
  const two = await startApp(t, { databaseUrl: one.databaseUrl })
  const look = async ({ app }: RunningApp): Promise<void> => {
    for (const { name, labels } of samplesOf(await metricsOf(app))) seen.set(name, [...seen.get(name) ?? [], labels])
  }
  const { ask, token } = one
  const placed = await ask<{ id: string }>('POST', '/orders', { token: token('alice'), body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': 'one' } })
  await ask('POST', `/orders/${placed.body.id}/pay`, { token: token('alice') })
  await look(one)
  await one.app.drain.start('test')
  await one.app.close()
  await look(two)
  return seen
}

async function metricsOf (app: RunningApp['app']): Promise<string> {
  const ops = await buildOps({ app, config: { ops: { host: '127.0.0.1', port: 0, token: undefined } }, logger: pino({ level: 'silent' }) })
  try {
    return (await ops.inject('/metrics')).body
  } finally {
    await ops.close()
  }
}
