import { stringify } from 'yaml'
import { analyses } from './analyses.ts'
import { dashboards } from './dashboards.ts'
import { groups } from './rules.ts'

const notByHand = '# Written by `npm run observability`; a change by hand is lost.\n'

/** The generated files: each path below deploy/, and its text. */
export function files (): Record<string, string> {
  const rule = { apiVersion: 'monitoring.coreos.com/v1', kind: 'PrometheusRule', metadata: { name: 'last-orders' }, spec: { groups: groups() } }
  return {
    'observability/prometheus/rules.yaml': notByHand + yaml({ groups: groups() }),
    'observability/kubernetes/prometheus-rule.yaml': notByHand + yaml(rule),
    ...Object.fromEntries(Object.entries(dashboards()).map(([name, dashboard]) => [`observability/grafana/dashboards/${name}.json`, `${JSON.stringify(dashboard, undefined, 2)}\n`])),
    ...Object.fromEntries(Object.entries(analyses()).map(([name, { reason, template }]) => [`extras/rollouts/analysis/${name}.yaml`, `# ${reason}\n${notByHand}${yaml(template)}`]))
  }
}

function yaml (value: object): string {
  return stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })
}
