import { join } from 'node:path'
import t from 'tap'
import { balancerMissing, balancerNames } from '../../verify/balancer.ts'
import { prove } from '../../verify/test/prove.ts'

const naive = join(import.meta.dirname, '../../verify/examples/plain-node/naive.mts')

// These tests show that the service makes a rolling restart invisible: no balancer does so by itself.
for (const balancer of balancerNames) {
  t.test(`behind ${balancer}, a service that exits at the signal fails requests and loses orders`, { skip: balancerMissing(balancer) ?? false }, async t => {
    const { code, verdict: { verdict, failedRequests, lost } } = await prove(t, ['--scenario', 'rolling', '--balancer', balancer, '--target', naive, '--duration', '3', '--rate', '400'])
    t.equal(code, 1)
    t.equal(verdict, 'broken')
    t.ok(failedRequests > 0, `${failedRequests} requests failed`)
    t.ok(lost > 0, `${lost} orders were lost`)
  })
}
