import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'
import { balancerNames } from '../../verify/balancer.ts'
import { managerNames, scenarioNames } from '../../verify/scenarios.ts'

t.test('every scenario, balancer and manager has a row, and an unknown row starts nothing', async t => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, '../seeds.ts'), '--seeds', '1,x', 'nonsense'], { encoding: 'utf8' })
  t.equal(status, 2)
  t.match(stderr, /There is no row nonsense\. Nothing was started\.\n--seeds is "1,x"; it takes numbers and ranges/)
  const rows = /Rows: (.*)/.exec(stdout)?.[1]?.split(', ') ?? []
  for (const name of [...scenarioNames, ...balancerNames, ...managerNames.slice(1), 'controls']) t.ok(rows.some(row => row.split(':').includes(name)), name)
})
