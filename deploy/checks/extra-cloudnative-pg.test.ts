import { join } from 'node:path'
import type { ICluster } from '@kubernetes-models/cloudnative-pg/postgresql.cnpg.io/v1'
import t from 'tap'
import { render } from './kubectl.ts'
import { changed, deploy, find } from './objects.ts'
import { faultsOf } from './schema.ts'

t.test('CloudNativePG acknowledges no commit that a failover could lose', async t => {
  const { spec } = find<ICluster>(render(join(deploy, 'extras/cloudnative-pg')), 'Cluster')
  t.match(spec, { instances: 3, postgresql: { synchronous: { method: 'any', number: 1, dataDurability: 'required', failoverQuorum: true } } })
})

t.test('the check of CloudNativePG refuses an unknown key of a Cluster', async t => {
  const cluster = find(render(join(deploy, 'extras/cloudnative-pg')), 'Cluster')
  t.match(await faultsOf(changed(cluster, ['spec', 'postgresql', 'synchronus'], {})), [/synchronus is not/])
})
