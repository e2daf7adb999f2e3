import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { stringify } from 'yaml'
import { cases, type Case } from '../observability/cases.ts'
import { files } from '../observability/files.ts'
import { runbooks, service } from '../observability/objectives.ts'
import { groups, type Alert } from '../observability/rules.ts'

const root = join(import.meta.dirname, '../..')
const deploy = join(root, 'deploy')
const rulesFile = join(deploy, 'observability/prometheus/rules.yaml')
const alerts = groups().flatMap(({ rules }) => rules).filter((rule): rule is Alert => 'alert' in rule)
/** promtool is in Debian's package prometheus. */
const needsPromtool = { skip: spawnSync('promtool', ['--version']).error !== undefined && 'promtool is not installed' }
const needsAmtool = { skip: spawnSync('amtool', ['--version']).error !== undefined && 'amtool is not installed' }

t.test('the generated files in the repository are up to date', async t => {
  for (const [name, text] of Object.entries(files())) t.equal(readFileSync(join(deploy, name), 'utf8'), text, `${name}: run npm run observability`)
})

t.test('Prometheus accepts its rules and its configuration', needsPromtool, async t => {
  execFileSync('promtool', ['check', 'rules', rulesFile])
  execFileSync('promtool', ['check', 'config', join(deploy, 'observability/prometheus/prometheus.yaml')])
})

t.test('Alertmanager accepts its configuration, and pages somebody only for a page', needsAmtool, async t => {
  const file = join(deploy, 'observability/alertmanager/alertmanager.yaml')
  execFileSync('amtool', ['check-config', file])
  for (const severity of ['page', 'ticket']) {
    t.equal(execFileSync('amtool', ['config', 'routes', 'test', `--config.file=${file}`, `severity=${severity}`], { encoding: 'utf8' }).trim(), severity)
  }
})

t.test('each alert has a runbook that exists', async t => {
  t.not(alerts.length, 0)
  for (const { alert, annotations } of alerts) t.ok(existsSync(join(root, 'docs/runbooks', annotations.runbook_url.slice(runbooks.length))), `${alert}: ${annotations.runbook_url}`)
})

t.test('each alert fires in its first case and stays quiet in its second', needsPromtool, async t => {
  t.strictSame(Object.keys(cases).toSorted(), alerts.map(({ alert }) => alert).toSorted(), 'each alert has its two cases')
  for (const { name, rules } of groups()) {
    const units = rules.flatMap(rule => 'alert' in rule ? [rule.alert] : []).flatMap(alert => {
      const { fires, quiet } = casesOf(alert)
      return [unit(alert, fires, true), unit(alert, quiet, false)]
    })
    for (const [evaluated, some] of Map.groupBy(units, ({ evaluated }) => evaluated)) {
      const { passed, output } = promtool(t, name, evaluated, some.map(({ test }) => test))
      t.ok(passed, `${name}: ${output}`)
    }
  }
})

t.test('a wrong case of an alert fails', needsPromtool, async t => {
  const { fires, quiet } = casesOf('DeadEvents')
  for (const { test, evaluated } of [unit('DeadEvents', quiet, true), unit('DeadEvents', fires, false)]) t.notOk(promtool(t, 'last-orders state', evaluated, [test]).passed)
})

t.test("Prometheus records volumes from the service's counters", needsPromtool, async t => {
  const { passed, output } = promtool(t, 'last-orders volumes', '1m', [{
    interval: '1m',
    input_series: [{ series: `orders_total{${service}, namespace="shop", instance="one", outcome="placed"}`, values: '0+60x30' }, { series: `orders_total{${service}, namespace="shop", instance="one", outcome="paid"}`, values: '0+45x30' }],
    promql_expr_test: [
      { expr: 'orders:placed:rate5m', eval_time: '30m', exp_samples: [{ labels: 'orders:placed:rate5m{namespace="shop"}', value: 1 }] },
      { expr: 'orders:paid_share:ratio_rate1h', eval_time: '30m', exp_samples: [{ labels: 'orders:paid_share:ratio_rate1h{namespace="shop"}', value: 0.75 }] }
    ]
  }])
  t.ok(passed, output)
})

t.test('Prometheus counts each stop once, even if the instance that reported it is gone, and whatever labels an instance has', needsPromtool, async t => {
  const { passed, output } = promtool(t, 'last-orders stops', '15s', [{
    interval: '15s',
    input_series: [
      // This instance has the newest figure, and goes.
      { series: `stops_total{${service}, namespace="shop", instance="one", node="a", outcome="clean", reason="SIGTERM"}`, values: '500x20 501 _x40' },
      { series: `stops_total{${service}, namespace="shop", instance="two", node="b", outcome="clean", reason="SIGTERM"}`, values: '500x21 501x40' }
    ],
    promql_expr_test: [{ expr: 'sum(increase(stops:total[10m])) < bool 1.5', eval_time: '10m', exp_samples: [{ labels: '{}', value: 1 }] }, { expr: 'stops:total', eval_time: '10m', exp_samples: [{ labels: 'stops:total{namespace="shop", outcome="clean", reason="SIGTERM"}', value: 501 }] }]
  }])
  t.ok(passed, output)
})

function casesOf (alert: string): { fires: Case, quiet: Case } {
  const found = cases[alert]
  if (found === undefined) throw new Error(`${alert} has no cases.`)
  return found
}

/** A unit test for promtool: whether this alert fires at that time. Ignores its labels. */
function unit (alert: string, { interval = '1m', evaluated = '1m', at, series }: Case, fires: boolean): { evaluated: string, test: object } {
  return {
    evaluated,
    test: {
      name: `${alert} ${fires ? 'fires' : 'does not fire'}`,
      interval,
      input_series: Object.entries(series).map(([series, values]) => ({ series, values })),
      promql_expr_test: [{
        expr: `count by (alertname) (ALERTS{alertname="${alert}", alertstate="firing"}) > bool 0`,
        eval_time: at,
        exp_samples: fires ? [{ labels: `{alertname="${alert}"}`, value: 1 }] : []
      }]
    }
  }
}

/** Runs only one group of the rules, because promtool evaluates every rule at each step. */
function promtool (t: Test, group: string, evaluated: string, tests: object[]): { passed: boolean, output: string } {
  const directory = t.testdir()
  const write = (name: string, content: object): string => {
    const file = join(directory, name)
    writeFileSync(file, stringify(content, { lineWidth: 0, aliasDuplicateObjects: false }))
    return file
  }
  const rules = write('rules.yaml', { groups: groups().filter(({ name }) => name === group) })
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', write('cases.yaml', { rule_files: [rules], evaluation_interval: evaluated, tests })], { encoding: 'utf8' })
  return { passed: status === 0, output: stdout + stderr }
}
