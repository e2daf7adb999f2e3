import { join } from 'node:path'
import type { IApplication } from '@kubernetes-models/argo-cd/argoproj.io/v1alpha1'
import t from 'tap'
import { render, type KubernetesObject } from './kubectl.ts'
import { changed, deploy, find, overlayDirectory, withKustomization, workload } from './objects.ts'
import { faultsOf } from './schema.ts'

t.test('Argo CD finishes the migration before the first new pod starts', async t => {
  const { source } = find<IApplication>(render(join(deploy, 'extras/argo-cd')), 'Application').spec
  const directory = join(deploy, '..', source?.path ?? '')
  t.equal(directory, overlayDirectory('production'))
  const objects = withKustomization(t, { resources: [directory], patches: source?.kustomize?.patches })
  for (const object of objects) t.strictSame(await faultsOf(object), [])

  const wave = ({ metadata }: KubernetesObject) => Number(metadata.annotations?.['argocd.argoproj.io/sync-wave'] ?? 0)
  const job = find(objects, 'Job')
  t.match(job.metadata.annotations, { 'argocd.argoproj.io/hook': 'Sync', 'argocd.argoproj.io/hook-delete-policy': 'BeforeHookCreation' })
  const api = find(objects, workload(objects).kind, 'last-orders')
  t.ok(wave(job) < wave(api))
  t.ok(wave(find(objects, 'ConfigMap')) <= wave(job), 'what the Job needs is there')
  t.equal(wave(find(objects, 'HorizontalPodAutoscaler')), wave(api))
})

t.test('the check of Argo CD refuses an unknown key of an Application', async t => {
  const application = find(render(join(deploy, 'extras/argo-cd')), 'Application')
  t.match(await faultsOf(changed(application, ['spec', 'source', 'paths'], '')), [/paths is not/])
})
