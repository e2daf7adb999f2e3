import { join } from 'node:path'
import type { IJob } from 'kubernetes-models/batch/v1'
import type { IServiceAccount } from 'kubernetes-models/v1'
import t from 'tap'
import { parse } from 'yaml'
import type { KubernetesObject } from './kubectl.ts'
import { changed, deploy, environments, find, overlayDirectory, secretsMount, withKustomization, workload } from './objects.ts'
import { faultsOf } from './schema.ts'

interface SecretProviderClass extends KubernetesObject { spec: { provider: string, parameters: { objects: string } } }
interface Mounted { objectName: string, jmesPath: Array<{ path: string, objectAlias: string }> }

for (const environment of environments) {
  t.test(`${environment}: the CSI driver mounts each secret that the settings name, from the environment's own entry and with its own role`, async t => {
    const namespace = `last-orders-${environment}`
    const objects = withKustomization(t, { namespace, resources: [overlayDirectory(environment)], components: [join(deploy, 'extras/secrets-store-csi', environment)] })
    const { metadata, spec } = find<SecretProviderClass>(objects, 'SecretProviderClass')
    const [mounted] = parse(spec.parameters.objects) as [Mounted]
    t.equal(metadata.namespace, namespace)
    t.equal(mounted.objectName, `last-orders/${environment}`)
    t.match(find<IServiceAccount>(objects, 'ServiceAccount', 'last-orders').metadata?.annotations, { 'eks.amazonaws.com/role-arn': new RegExp(`/last-orders-${environment}$`) })

    const settings = Object.entries(find<KubernetesObject & { data: Record<string, string> }>(objects, 'ConfigMap').data)
    const named = settings.flatMap(([name, value]) => name.endsWith('_FILE') && value.startsWith(`${secretsMount}/`) ? [value.slice(secretsMount.length + 1)] : [])
    t.strictSame(mounted.jmesPath.map(({ objectAlias }) => objectAlias).toSorted(), named.toSorted())

    const volume = { name: 'secrets', csi: { driver: 'secrets-store.csi.k8s.io', readOnly: true, volumeAttributes: { secretProviderClass: metadata.name } } }
    for (const pod of [workload(objects).spec?.template.spec, find<IJob>(objects, 'Job').spec?.template.spec]) {
      t.strictSame(pod?.volumes, [volume])
      t.match(pod?.containers[0]?.volumeMounts, [{ name: 'secrets', mountPath: secretsMount, readOnly: true }])
    }
  })
}

t.test('the check of a SecretProviderClass refuses an unknown key and a parameter that is no text', async t => {
  const directory = join(deploy, 'extras/secrets-store-csi/production')
  const provided = find(withKustomization(t, { resources: [overlayDirectory('production')], components: [directory] }), 'SecretProviderClass')
  t.match(await faultsOf(changed(provided, ['spec', 'providr'], 'aws')), [/additional properties: providr/])
  t.match(await faultsOf(changed(provided, ['spec', 'parameters', 'objects'], [])), [/objects must be string/])
})
