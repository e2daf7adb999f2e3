import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { balancerMissing, balancerNames } from '../../verify/balancer.ts'
import type { Verdict } from '../../verify/verdict.ts'

const verify = join(import.meta.dirname, '../../verify')

// These tests show that the service makes a rolling restart invisible: no balancer does so by itself.
for (const balancer of balancerNames) {
  t.test(`behind ${balancer}, a service that exits at the signal fails requests and loses orders`, { skip: balancerMissing(balancer) ?? false }, async t => {
    const out = join(t.testdir(), 'out')
    const args = ['--scenario', 'rolling', '--balancer', balancer, '--target', join(verify, 'examples/plain-node/naive.mts'), '--duration', '3', '--rate', '400', '--seed', '1', '--out', out]
    const { code } = await promisify(execFile)(process.execPath, [join(verify, 'bin.ts'), ...args]).then(() => ({ code: 0 }), (error: { code: number }) => error)
    t.equal(code, 1)
    const { verdict, failedRequests, lost } = JSON.parse(readFileSync(join(out, 'verdict.json'), 'utf8')) as Verdict
    t.equal(verdict, 'broken')
    t.ok(failedRequests > 0, `${failedRequests} requests failed`)
    t.ok(lost > 0, `${lost} orders were lost`)
  })
}
