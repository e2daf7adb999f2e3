import type { IDeployment } from 'kubernetes-models/apps/v1'
import type { IJob } from 'kubernetes-models/batch/v1'
import t from 'tap'
import { find, privileges, secretsMount, withComponent, workload } from './objects.ts'

t.test('the service goes through PgBouncer, and migrations go straight to Postgres', async t => {
  const objects = withComponent(t, 'extras/pgbouncer')
  const pod = workload(objects).spec?.template.spec
  t.strictSame(pod?.containers[0]?.env, [{ name: 'DATABASE_URL_FILE', value: `${secretsMount}/DATABASE_URL_POOLED` }])
  const direct = [{ name: 'DATABASE_URL_FILE', value: `${secretsMount}/DATABASE_URL` }]
  t.strictSame(pod?.initContainers?.[0]?.env, direct)
  t.strictSame(find<IJob>(objects, 'Job').spec?.template.spec?.containers[0]?.env, [...direct, { name: 'ENVIRONMENT', value: '' }])
  const { spec } = find<IDeployment>(objects, 'Deployment', 'last-orders-pgbouncer')
  t.strictSame(privileges(spec?.template.spec ?? { containers: [] }), [])
})
