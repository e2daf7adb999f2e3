import { join, relative } from 'node:path'
import type { IDeployment } from 'kubernetes-models/apps/v1'
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import type { IPodSpec } from 'kubernetes-models/v1'
import type { Test } from 'tap'
import { render, type KubernetesObject } from './kubectl.ts'

export const deploy = join(import.meta.dirname, '..')
export const base = join(deploy, 'kubernetes/base')
export const environments = ['development', 'staging', 'production'] as const
export type EnvironmentName = typeof environments[number]

/** Where the pods find their secrets. */
export const secretsMount = '/run/secrets/last-orders'

export const overlayDirectory = (environment: EnvironmentName): string => join(deploy, 'kubernetes/overlays', environment)

/** Applies the component to the base, because an overlay may contain it already. */
export function withComponent (t: Test, directory: string): KubernetesObject[] {
  return withKustomization(t, { resources: [base], components: [join(deploy, directory)] })
}

/** Renders a kustomization that is not in the repository. Paths are absolute. */
export function withKustomization (
  t: Test,
  { namespace, resources, components = [], patches = [] }: { namespace?: string, resources: string[], components?: string[], patches?: unknown[] | undefined }
): KubernetesObject[] {
  const seenFrom = (path: string) => relative(t.testdirName, path)
  const scratch = t.testdir({
    'kustomization.yaml': JSON.stringify({
      apiVersion: 'kustomize.config.k8s.io/v1beta1',
      kind: 'Kustomization',
      namespace,
      resources: resources.map(seenFrom),
      components: components.map(seenFrom),
      patches
    })
  })
  return render(scratch)
}

/** The first object of the kind, or the one with that name. */
export function find<Kind extends object = KubernetesObject> (objects: KubernetesObject[], kind: string, name?: string): Kind {
  const found = objects.find(object => object.kind === kind && (name === undefined || object.metadata.name === name))
  if (found === undefined) throw new Error(`There is no ${kind} ${name ?? ''}.`)
  return found as unknown as Kind
}

/** The service's Deployment, or the Rollout that replaces it. */
export function workload (objects: KubernetesObject[]): IDeployment {
  const kind = objects.some(object => object.kind === 'Rollout') ? 'Rollout' : 'Deployment'
  return find<IDeployment>(objects, kind, 'last-orders')
}

export function policy (objects: KubernetesObject[], name: string): NonNullable<INetworkPolicy['spec']> {
  return find<INetworkPolicy>(objects, 'NetworkPolicy', name).spec ?? { podSelector: {} }
}

export function changed<Value extends object> (value: Value, [key = '', ...path]: string[], to: unknown): Value {
  const copy = (Array.isArray(value) ? [...value] : { ...value }) as Record<string, unknown>
  const part = copy[key]
  if (path.length === 0) copy[key] = to
  else copy[key] = changed(typeof part === 'object' && part !== null ? part : {}, path, to)
  return copy as Value
}

/** The rights of a pod that the service does not need. Stricter than `restricted`: a numeric user, no writable image, no token. */
export function privileges (pod: IPodSpec): string[] {
  const { runAsNonRoot, runAsUser = 0, seccompProfile } = pod.securityContext ?? {}
  const faults: string[] = []
  if (runAsNonRoot !== true || runAsUser === 0) faults.push('may run as root')
  if (seccompProfile?.type !== 'RuntimeDefault') faults.push('has no seccomp profile')
  if (pod.automountServiceAccountToken !== false) faults.push('has a token of the cluster')
  for (const { name, securityContext, resources } of [...pod.initContainers ?? [], ...pod.containers]) {
    if (securityContext?.allowPrivilegeEscalation !== false) faults.push(`${name} may escalate`)
    if (securityContext?.readOnlyRootFilesystem !== true) faults.push(`${name} may write to its image`)
    if (securityContext?.capabilities?.drop?.[0] !== 'ALL') faults.push(`${name} keeps capabilities`)
    if (resources?.requests?.cpu === undefined || resources.requests.memory === undefined || resources.limits?.memory === undefined) faults.push(`${name} does not say what it needs`)
  }
  return faults
}
