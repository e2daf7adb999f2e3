import { randomBytes } from 'node:crypto'
import { globSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import type { IHorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2'
import type { IJob } from 'kubernetes-models/batch/v1'
import type { INetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import type { IPodDisruptionBudget } from 'kubernetes-models/policy/v1'
import type { IConfigMap, ILimitRange, INamespace, IPodSpec, IResourceQuota, ISecret, IService } from 'kubernetes-models/v1'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { ConfigError, loadConfig, type Config } from '../../config.ts'
import { render, type KubernetesObject } from './kubectl.ts'
import { base, changed, deploy, environments, find, overlayDirectory, policy, privileges, secretsMount, withComponent, workload, type EnvironmentName } from './objects.ts'
import { faultsOf } from './schema.ts'

/** Postgres's default of 100, without the connections that it reserves for superusers. */
const postgresConnections = 97
/** From the removal of an endpoint until the last node routes without it, in ms. */
const propagationMs = 1_000
/** The least time between the service's deadline and the SIGKILL, in ms. */
const graceSlackMs = 2_000

const overlays = new Map(environments.map(environment => [environment, render(overlayDirectory(environment))]))
const overlay = (environment: EnvironmentName) => overlays.get(environment) ?? []

const extras = [...globSync('extras/**/kustomization.yaml', { cwd: deploy }), 'observability/kustomization.yaml'].map(file => {
  const { kind } = parse(readFileSync(join(deploy, file), 'utf8')) as { kind: string }
  return { directory: join(file, '..'), component: kind === 'Component' }
})

for (const environment of environments) {
  t.test(`${environment}: every object fits its schema and has no unknown key`, async t => {
    for (const object of overlay(environment)) t.strictSame(await faultsOf(object), [])
  })
}

for (const { directory, component } of extras) {
  t.test(`${directory}: every object fits its schema and has no unknown key`, async t => {
    const objects = component ? withComponent(t, directory) : render(join(deploy, directory))
    t.not(objects.length, 0)
    for (const object of objects) t.strictSame(await faultsOf(object), [])
  })
}

t.test('the check of Kubernetes objects refuses unknown keys, wrong types, missing fields and unknown kinds', async t => {
  const deployment = find(render(base), 'Deployment')
  const broken = async (path: string[], value: unknown) => await faultsOf(changed(deployment, path, value))

  t.match(await broken(['spec', 'replicaz'], 3), [/\/spec\/replicaz is not in its schema/])
  t.match(await broken(['spec', 'template', 'spec', 'containers', '0', 'readinessProbe', 'httpGet', 'pth'], '/'), [/httpGet\/pth is not/])
  t.match(await broken(['spec', 'template', 'spec', 'containers', '0', 'securityContext', 'runAsNotRoot'], true), [/runAsNotRoot is not/])
  t.match(await broken(['metadata', 'lables'], {}), [/lables is not/])
  t.match(await broken(['spec', 'minReadySeconds'], 'five'), [/minReadySeconds must be integer/])
  t.match(await broken(['spec', 'selector'], undefined), [/selector/])
  t.match(await broken(['kind'], 'Deploiment'), [/nothing is known of Deploiment/])
})

for (const environment of environments) {
  t.test(`${environment}: the settings are valid, and the service's stop fits into the pod's grace period`, async t => {
    t.strictSame(budgetFaults(overlay(environment), secretsOf(t, environment)), [])
  })
}

t.test('the check of the overlays refuses a stop that does not fit, and settings that are wrong or unknown', async t => {
  const secrets = secretsOf(t, 'production')
  const withSetting = (name: string, value: string) =>
    budgetFaults(overlay('production').map(object => object.kind === 'ConfigMap' ? changed(object, ['data', name], value) : object), secrets)
  const withPod = (path: string[], value: unknown) =>
    budgetFaults(overlay('production').map(object => object === workload(overlay('production')) ? changed(object, ['spec', 'template', 'spec', ...path], value) : object), secrets)

  t.match(withSetting('DRAIN_DEADLINE_MS', '28001'), [/30000 ms\).*DRAIN_DEADLINE_MS \(28001\)/])
  t.strictSame(withSetting('DRAIN_DEADLINE_MS', '28000'), [])
  t.match(withPod(['terminationGracePeriodSeconds'], 26), [/26000 ms/])
  t.match(withPod(['terminationGracePeriodSeconds'], undefined), [/undefined/])
  t.match(withPod(['containers', '0', 'readinessProbe', 'failureThreshold'], 3), [/DRAIN_MIN_MS \(5000\)/])
  t.match(withPod(['containers', '0', 'lifecycle'], { preStop: { sleep: { seconds: 5 } } }), [/preStop/])
  t.match(withPod(['containers', '0', 'ports', '0', 'containerPort'], 8080), [/8080/])
  t.match(withSetting('DRAIN_MINIMUM_MS', '5000'), [/DRAIN_MINIMUM_MS is not a setting/])
  t.match(withSetting('DRAIN_MAX_MS', 'ten'), [/DRAIN_MAX_MS is "ten"/])
  t.match(withSetting('REQUEST_TIMEOUT_MS', '20000'), [/do not fit into DRAIN_DEADLINE_MS/])
})

for (const environment of environments) {
  t.test(`${environment}: the service and its migration have this environment, which the database checks`, async t => {
    t.equal(settingsOf(overlay(environment)).ENVIRONMENT, environment)
    t.strictSame(find<IJob>(overlay(environment), 'Job').spec?.template.spec?.containers[0]?.env?.find(({ name }) => name === 'ENVIRONMENT'), { name: 'ENVIRONMENT', value: environment })
  })
}

for (const environment of environments) {
  t.test(`${environment}: the pods mount the overlay's Secret, which has the files that the settings name`, async t => {
    const directory = join(overlayDirectory(environment), 'secret')
    const scratch = t.testdir({
      'kustomization.yaml': readFileSync(join(directory, 'kustomization.yaml'), 'utf8'),
      'secret.env': readFileSync(join(directory, 'secret.env.example'), 'utf8')
    })
    const objects = render(scratch)
    t.equal(objects.length, 1)
    const secret = find<ISecret>(objects, 'Secret')
    // kubectl wraps long values; Kubernetes ignores the line breaks, but the schema does not.
    const data = Object.fromEntries(Object.entries(secret.data ?? {}).map(([name, value]) => [name, value.replaceAll('\n', '')]))
    t.strictSame(await faultsOf({ ...find(objects, 'Secret'), data }), [])

    t.equal(secret.metadata?.namespace, `last-orders-${environment}`)
    const files = Object.values(settingsOf(overlay(environment))).filter(value => value.startsWith(secretsMount))
    t.strictSame(files.toSorted(), Object.keys(data).map(key => `${secretsMount}/${key}`).toSorted())
    for (const { spec } of pods(overlay(environment))) t.equal(spec.volumes?.[0]?.secret?.secretName, secret.metadata?.name)
  })
}

t.test('each overlay contains only settings of its own environment', async t => {
  const distinct = (values: unknown[]) => {
    t.equal(new Set(values).size, environments.length, `${values.join(', ')} differ`)
    t.notOk(values.includes(undefined))
  }
  for (const environment of environments) {
    const namespace = `last-orders-${environment}`
    for (const { kind, metadata } of overlay(environment)) t.equal(kind === 'Namespace' ? metadata.name : metadata.namespace, namespace)
    const others = environments.filter(other => other !== environment)
    const text = readdirSync(overlayDirectory(environment), { recursive: true, withFileTypes: true })
      .filter(file => file.isFile() && file.name !== 'secret.env').map(file => readFileSync(join(file.parentPath, file.name), 'utf8')).join('\n')
    for (const other of others) t.notMatch(text, other)
  }

  distinct(environments.map(environment => new URL(exampleOf(environment).DATABASE_URL ?? '').pathname))
  distinct(environments.map(environment => new URL(exampleOf(environment).DATABASE_URL ?? '').hostname))
  distinct(environments.map(environment => policy(overlay(environment), 'last-orders-egress').egress?.[0]?.to?.[0]?.ipBlock?.cidr))
})

for (const environment of environments) {
  const objects = overlay(environment)

  t.test(`${environment}: the network policies allow only the ingress, the scraper, DNS and Postgres`, async t => {
    t.strictSame(find<INetworkPolicy>(objects, 'NetworkPolicy', 'default-deny').spec, { podSelector: {}, policyTypes: ['Ingress', 'Egress'] })

    const { podSelector, ingress = [], egress: none } = policy(objects, 'last-orders-ingress')
    t.strictSame(podSelector, workload(objects).spec?.selector)
    t.notOk(none)
    t.strictSame(ingress.map(({ from, ports }) => ({ from, ports })), [
      { from: [namespaceNamed('ingress-nginx')], ports: [{ port: 'http' }] },
      { from: [{ ...namespaceNamed('monitoring'), podSelector: { matchLabels: { 'app.kubernetes.io/name': 'prometheus' } } }], ports: [{ port: 'ops' }] }
    ])

    const { podSelector: both, egress = [] } = policy(objects, 'last-orders-egress')
    for (const { labels } of pods(objects)) t.match(labels, both?.matchLabels ?? {})
    t.match(egress, [
      { to: [{ ipBlock: { cidr: /^10\.\d+\.0\.0\/16$/ } }], ports: [{ port: 5432 }] },
      { to: [{ ...namespaceNamed('kube-system'), podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } } }], ports: [{ port: 53, protocol: 'UDP' }, { port: 53, protocol: 'TCP' }] }
    ])
    t.equal(egress.length, 2)
  })

  t.test(`${environment}: the namespace admits only restricted pods, and its quota fits all that may run at once`, async t => {
    t.equal(find<INamespace>(objects, 'Namespace').metadata?.labels?.['pod-security.kubernetes.io/enforce'], 'restricted')
    for (const { name, spec } of pods(objects)) t.strictSame(privileges(spec), [], name)

    const { hard = {} } = find<IResourceQuota>(objects, 'ResourceQuota').spec ?? {}
    // Twice all pods, because as many may drain; and a migration.
    const size = 2 * (find<IHorizontalPodAutoscaler>(objects, 'HorizontalPodAutoscaler').spec?.maxReplicas ?? NaN)
    const needed = { pods: 0, 'requests.cpu': 0, 'requests.memory': 0, 'limits.memory': 0 }
    for (const { kind, spec } of pods(objects)) {
      const count = kind === 'Job' ? 1 : size
      const { requests = {}, limits = {} } = spec.containers[0]?.resources ?? {}
      needed.pods += count
      needed['requests.cpu'] += count * amount(requests.cpu)
      needed['requests.memory'] += count * amount(requests.memory)
      needed['limits.memory'] += count * amount(limits.memory)
    }
    for (const [resource, least] of Object.entries(needed)) t.ok(amount(hard[resource]) >= least, `${resource}: ${hard[resource]} is at least ${least}`)

    const [limits] = find<ILimitRange>(objects, 'LimitRange').spec?.limits ?? []
    t.match(limits, { type: 'Container', defaultRequest: { cpu: /./, memory: /./ }, default: { memory: /./ } })
  })

  t.test(`${environment}: Kubernetes replaces the pods one by one, spreads, scales and protects them`, async t => {
    const { apiVersion, kind, metadata, spec } = workload(objects)
    t.notOk('replicas' in (spec ?? {}), 'the autoscaler has them')
    t.equal(spec?.minReadySeconds, 5)
    if (kind === 'Deployment') t.strictSame(spec?.strategy?.rollingUpdate, { maxSurge: 1, maxUnavailable: 0 })

    const pod = spec?.template.spec
    t.strictSame(pod?.topologySpreadConstraints?.map(({ topologyKey, matchLabelKeys, labelSelector }) => ({ topologyKey, matchLabelKeys, labelSelector })),
      ['kubernetes.io/hostname', 'topology.kubernetes.io/zone'].map(topologyKey => ({ topologyKey, matchLabelKeys: ['pod-template-hash'], labelSelector: spec?.selector })))
    t.match(pod?.containers[0], {
      startupProbe: { httpGet: { path: '/livez', port: 'ops' }, periodSeconds: 2, failureThreshold: 30 },
      livenessProbe: { httpGet: { path: '/livez', port: 'ops' }, periodSeconds: 10, failureThreshold: 3 },
      readinessProbe: { httpGet: { path: '/readyz', port: 'ops' }, periodSeconds: 2, failureThreshold: 2 },
      terminationMessagePolicy: 'FallbackToLogsOnError'
    })
    t.match(settingsOf(objects), { MIGRATE_ON_START: 'false', DRAIN_REPORT_FILE: '/dev/termination-log' })
    t.notOk(pod?.containers[0]?.resources?.limits?.cpu)

    t.match(find<IPodDisruptionBudget>(objects, 'PodDisruptionBudget').spec, { maxUnavailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow', selector: spec?.selector })
    const { scaleTargetRef, minReplicas = NaN, maxReplicas = NaN } = find<IHorizontalPodAutoscaler>(objects, 'HorizontalPodAutoscaler').spec ?? {}
    t.strictSame(scaleTargetRef, { apiVersion, kind, name: metadata?.name })
    t.ok(minReplicas >= 1 && maxReplicas > minReplicas)

    t.match(find<IService>(objects, 'Service').spec, { selector: spec?.selector?.matchLabels, ports: [{ targetPort: 'http' }] })
    t.equal(find<IService>(objects, 'Service').spec?.ports?.length, 1, 'the ops port has no Service')
  })

  t.test(`${environment}: all instances together leave Postgres connections to spare`, async t => {
    const { maxReplicas = NaN } = find<IHorizontalPodAutoscaler>(objects, 'HorizontalPodAutoscaler').spec ?? {}
    const { database } = loadConfig(environmentOf(objects, secretsOf(t, environment)))
    t.ok((maxReplicas + 1) * database.pool <= postgresConnections, `(${maxReplicas} + 1) × ${database.pool} are at most ${postgresConnections}`)
  })

  t.test(`${environment}: all pods have one tagged image, and the migration Job is named after its tag`, async t => {
    const images = pods(objects).flatMap(({ spec }) => [...spec.initContainers ?? [], ...spec.containers].map(({ image }) => image))
    t.equal(new Set(images).size, 1)
    const [, tag] = /^ghcr\.io\/your-organisation\/last-orders:([^:]+)$/.exec(images[0] ?? '') ?? []
    const job = find<IJob>(objects, 'Job')
    t.equal(job.metadata?.name, `last-orders-migrate-${tag}`)
    t.notOk(job.spec?.template.spec?.containers[0]?.envFrom, 'a setting must not change a Job')
    t.strictSame(job.spec?.template.spec?.containers[0]?.command, ['node', 'prisma/migrate.ts'])
  })
}

t.test('the base has no network policies but the tested ones', async t => {
  t.strictSame(render(base).flatMap(({ kind, metadata }) => kind === 'NetworkPolicy' ? [metadata.name] : []).toSorted(),
    ['default-deny', 'last-orders-egress', 'last-orders-ingress'])
})

t.test('each extra can be removed: neither the base nor another extra refers to it', async t => {
  const lines = (pattern: string) => globSync(pattern, { cwd: deploy }).flatMap(file => readFileSync(join(deploy, file), 'utf8').split('\n'))
  t.not(lines('kubernetes/base/*').length, 0)
  t.strictSame(lines('kubernetes/base/*').filter(line => line.includes('extras')), [])
  const folders = readdirSync(join(deploy, 'extras'), { withFileTypes: true }).filter(entry => entry.isDirectory()).map(({ name }) => name)
  for (const folder of folders) {
    for (const other of folders.filter(name => name !== folder)) {
      t.strictSame(lines(`extras/${folder}/**/*.yaml`).filter(line => line.includes(`../${other}`)), [])
    }
  }
})

/** Why the service would not stop properly; empty if it does. */
function budgetFaults (objects: KubernetesObject[], secretsDirectory: string): string[] {
  const faults: string[] = []
  const known = knownSettings()
  for (const name of Object.keys(settingsOf(objects))) if (!known.has(name)) faults.push(`${name} is not a setting of the service; .env.example lists them.`)

  let config: Config
  try {
    config = loadConfig(environmentOf(objects, secretsDirectory))
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return [...faults, ...error.faults]
  }

  const pod = workload(objects).spec?.template.spec
  const { readinessProbe, lifecycle, ports = [] } = pod?.containers[0] ?? {}
  const { minMs, deadlineMs } = config.drain
  const graceMs = (pod?.terminationGracePeriodSeconds ?? NaN) * 1_000
  if (!(graceMs >= deadlineMs + graceSlackMs)) {
    const grace = Number.isNaN(graceMs) ? 'undefined' : `${graceMs} ms`
    faults.push(`terminationGracePeriodSeconds (${grace}) is less than DRAIN_DEADLINE_MS (${deadlineMs}) and ${graceSlackMs} ms: the pod could be killed in mid-stop.`)
  }
  const noticedMs = (readinessProbe?.periodSeconds ?? NaN) * (readinessProbe?.failureThreshold ?? NaN) * 1_000 + propagationMs
  if (!(minMs >= noticedMs)) faults.push(`DRAIN_MIN_MS (${minMs}) is less than the ${noticedMs} ms that it takes to notice: new requests could meet a closed listener.`)
  if (lifecycle?.preStop !== undefined) faults.push('preStop takes its time from the same grace period; DRAIN_MIN_MS does its work.')
  for (const [name, port] of [['http', config.port], ['ops', config.ops.port]] as const) {
    const declared = ports.find(port => port.name === name)?.containerPort
    if (declared !== port) faults.push(`The port ${name} is ${declared}; the service listens on ${port}.`)
  }
  return faults
}

/** The names of all settings, with their _FILE variants, from the service's own list. */
function knownSettings (): Set<string> {
  const text = readFileSync(join(deploy, '../.env.example'), 'utf8')
  return new Set([...Object.keys(parseEnv(text)), ...text.match(/\b[A-Z_]+_FILE\b/g) ?? []])
}

/** The settings in the ConfigMap that the pods name. */
function settingsOf (objects: KubernetesObject[]): Record<string, string> {
  const name = workload(objects).spec?.template.spec?.containers[0]?.envFrom?.[0]?.configMapRef?.name ?? ''
  return find<IConfigMap>(objects, 'ConfigMap', name).data ?? {}
}

/** The container's environment, but with the secrets in this folder. */
function environmentOf (objects: KubernetesObject[], secretsDirectory: string): Record<string, string> {
  return Object.fromEntries(Object.entries(settingsOf(objects)).map(([name, value]) => [name, value.replace(secretsMount, secretsDirectory)]))
}

function exampleOf (environment: EnvironmentName): NodeJS.Dict<string> {
  return parseEnv(readFileSync(join(overlayDirectory(environment), 'secret/secret.env.example'), 'utf8'))
}

/** A directory with the secrets of the example, filled in. */
function secretsOf (t: Test, environment: EnvironmentName): string {
  return t.testdir(Object.fromEntries(Object.entries(exampleOf(environment)).map(([name, value]) => [name, value || randomBytes(32).toString('base64')])))
}

function namespaceNamed (name: string) {
  return { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': name } } }
}

/** The pods with the service's image. */
function pods (objects: KubernetesObject[]): Array<{ kind: string, name: string, labels: Record<string, string>, spec: IPodSpec }> {
  return [workload(objects), find<IJob>(objects, 'Job')].map(({ kind, metadata, spec }) => ({
    kind,
    name: metadata?.name ?? '',
    labels: spec?.template.metadata?.labels ?? {},
    spec: spec?.template.spec ?? { containers: [] }
  }))
}

/** A quantity as a number: cores, or bytes. */
function amount (quantity: string | number | undefined): number {
  const [, number, unit = ''] = /^(\d+)(m|Mi|Gi)?$/.exec(String(quantity)) ?? []
  return Number(number) * ({ m: 1 / 1_000, Mi: 2 ** 20, Gi: 2 ** 30 }[unit] ?? 1)
}
