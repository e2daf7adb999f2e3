import { runInNewContext } from 'node:vm'
import type { IAnalysisTemplate, IRollout } from '@kubernetes-models/argo-rollouts/argoproj.io/v1alpha1'
import type { IHorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2'
import t from 'tap'
import { render, type KubernetesObject } from './kubectl.ts'
import { base, changed, find, withComponent, workload } from './objects.ts'
import { faultsOf } from './schema.ts'

for (const strategy of ['canary', 'blue-green']) {
  t.test(`${strategy}: the Deployment becomes a Rollout, the autoscaler follows it, and its analyses get all arguments`, async t => {
    const objects = withComponent(t, `extras/rollouts/${strategy}`)
    t.notOk(objects.some(({ kind }) => kind === 'Deployment'))
    const rollout = find<IRollout>(objects, 'Rollout')
    t.strictSame(rollout.spec?.template, workload(render(base)).spec?.template)
    t.match(find<IHorizontalPodAutoscaler>(objects, 'HorizontalPodAutoscaler').spec?.scaleTargetRef,
      { apiVersion: rollout.apiVersion, kind: 'Rollout', name: rollout.metadata?.name })

    const { canary, blueGreen } = rollout.spec?.strategy ?? {}
    const services = objects.flatMap(({ kind, metadata }) => kind === 'Service' ? [metadata.name] : [])
    for (const service of [blueGreen?.activeService, blueGreen?.previewService]) if (service !== undefined) t.ok(services.includes(service))

    const analyses = [canary?.analysis, blueGreen?.prePromotionAnalysis, blueGreen?.postPromotionAnalysis].filter(analysis => analysis !== undefined)
    t.not(analyses.length, 0)
    for (const { templates = [], args = [] } of analyses) {
      for (const { templateName } of templates) {
        const asked = find<IAnalysisTemplate>(objects, 'AnalysisTemplate', templateName).spec?.args ?? []
        const missing = asked.filter(arg => arg.value === undefined && !args.some(({ name }) => name === arg.name))
        t.strictSame(missing, [])
      }
    }
    const used = new Set(analyses.flatMap(({ templates = [] }) => templates.map(({ templateName }) => templateName)))
    t.ok(used.has('last-orders-slo') && used.has('last-orders-stops'))
  })
}

t.test('the check of Argo Rollouts refuses an unknown key of a Rollout', async t => {
  const rollout = find(withComponent(t, 'extras/rollouts/canary'), 'Rollout')
  t.match(await faultsOf(changed(rollout, ['spec', 'strategy', 'canary', 'stepz'], [])), [/canary\/stepz is not/])
})

const analysed = metricsOf(withComponent(t, 'extras/rollouts/canary'))

t.test('an analysis passes good values, fails bad ones, and leaves missing ones, NaN and the gap between to a person', async t => {
  const outcomes: Record<string, Array<[number[], 'successful' | 'failed' | 'inconclusive']>> = {
    availability: [[[0], 'successful'], [[0.001], 'successful'], [[0.005], 'inconclusive'], [[0.02], 'failed']],
    latency: [[[0], 'successful'], [[0.01], 'successful'], [[0.02], 'inconclusive'], [[0.05], 'failed']],
    'more-errors': [[[-0.01], 'successful'], [[0], 'successful'], [[0.005], 'inconclusive'], [[0.02], 'failed']],
    slower: [[[0.8], 'successful'], [[1.5], 'inconclusive'], [[3], 'failed']],
    'abandoned-work': [[[0], 'successful'], [[1], 'failed']],
    'other-bad-stops': [[[0], 'successful'], [[1], 'inconclusive']]
  }
  t.strictSame(analysed.map(({ name }) => name).toSorted(), Object.keys(outcomes).toSorted())
  for (const { name, successCondition, failureCondition } of analysed) {
    for (const [result, expected] of [[[], 'inconclusive'], [[NaN], 'inconclusive'], ...outcomes[name] ?? []] as const) {
      // These expressions mean the same in JavaScript and in Argo Rollouts, which fails first if both hold.
      const holds = (condition: string) => runInNewContext(condition, { result, len: (list: number[]) => list.length }) as boolean
      const outcome = holds(failureCondition) ? 'failed' : holds(successCondition) ? 'successful' : 'inconclusive'
      t.equal(outcome, expected, `${name} of [${result.join()}]`)
    }
  }
})

function metricsOf (objects: KubernetesObject[]) {
  return objects
    .filter(({ kind }) => kind === 'AnalysisTemplate')
    .flatMap(template => (template as unknown as IAnalysisTemplate).spec?.metrics ?? [])
    .map(({ name, successCondition = '', failureCondition = '' }) => ({ name, successCondition, failureCondition }))
}
