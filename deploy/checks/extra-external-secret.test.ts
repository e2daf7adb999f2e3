import { join } from 'node:path'
import type { IExternalSecret } from '@kubernetes-models/external-secrets/external-secrets.io/v1'
import type { IServiceAccount } from 'kubernetes-models/v1'
import t from 'tap'
import { render } from './kubectl.ts'
import { base, changed, deploy, environments, find, workload } from './objects.ts'
import { faultsOf } from './schema.ts'

const external = environments.map(environment => ({ environment, objects: render(join(deploy, 'extras/external-secret', environment)) }))

t.test('External Secrets reads the secret of each environment with its own role into its own namespace', async t => {
  for (const { environment, objects } of external) {
    for (const { metadata } of objects) t.equal(metadata.namespace, `last-orders-${environment}`)
    const { dataFrom, target } = find<IExternalSecret>(objects, 'ExternalSecret').spec ?? {}
    t.equal(dataFrom?.[0]?.extract?.key, `last-orders/${environment}`)
    t.match(find<IServiceAccount>(objects, 'ServiceAccount').metadata?.annotations, { 'eks.amazonaws.com/role-arn': new RegExp(`/last-orders-${environment}$`) })
    t.equal(target?.name, workload(render(base)).spec?.template.spec?.volumes?.[0]?.secret?.secretName, 'the Secret that the pods mount')
  }
})

t.test('the check of External Secrets refuses an unknown key of an ExternalSecret', async t => {
  const secret = find(external.flatMap(({ objects }) => objects), 'ExternalSecret')
  t.match(await faultsOf(changed(secret, ['spec', 'dataFrom', '0', 'extract', 'kee'], '')), [/kee is not/])
})
