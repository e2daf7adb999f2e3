import { join } from 'node:path'
import t from 'tap'
import { targetOptions, type Home } from '../../home.ts'
import { availability, bound, command, headline, time } from '../../report/words.ts'
import { madeUpRun } from './made-up-run.ts'

const { verdict } = madeUpRun()

t.test('a time has a readable unit and number of digits', async t => {
  for (const [ms, says] of [[0, '0 ms'], [0.14, '0.1 ms'], [8.25, '8.3 ms'], [412.4, '412 ms'], [2_345, '2.35 s'], [15_000, '15 s'], [60_000, '1 min'], [301_000, '5 min 1 s']] as const) {
    t.equal(time(ms), says)
  }
})

t.test('availability is never rounded up to 100 %, and excludes clients that hung up and the settling', async t => {
  const operations = { new: { ok: 99_999, fail: 1, info: 0 }, 'hang-up': { ok: 0, fail: 0, info: 50 }, settle: { ok: 70, fail: 0, info: 0 } }
  t.equal(availability({ ...verdict, operations, failedRequests: 1 }).says, '99.99 % of 100,000 requests got a proper answer; 1 failed')
  t.equal(availability({ ...verdict, operations: {} }).says, 'nothing was asked')
})

t.test('the bound is one in one if there are too few orders to bound anything', async t => {
  t.match(bound({ ...verdict, acknowledged: 2, lossBound: 1.5 }), 'at most 1 in 1,')
})

t.test('one order and one fault are in the singular', async t => {
  t.equal(headline({ ...verdict, verdict: 'held', acknowledged: 1, faults: verdict.faults.slice(1, 2) }), '1 order was acknowledged, and every one is stored, once, through 1 fault, 1 of them with requests in flight.')
  t.match(headline({ ...verdict, verdict: 'held', faults: [] }), 'with no fault.')
})

t.test('the next command omits unknown options of the load', async t => {
  t.equal(command({ ...verdict, environment: {} }), 'npm run verify -- --scenario all --duration 30 --seed 11')
})

t.test('the next command names the proved service, quoted for the shell, and its settings', async t => {
  const options = targetOptions(join(process.cwd(), 'my shop/verify.yaml'), { BROKEN: 'early', NOTE: "it's" })
  t.equal(command({ ...verdict, environment: { command: 'npx last-orders-verify', options } }),
    "npx last-orders-verify --target 'my shop/verify.yaml' --env BROKEN=early --env 'NOTE=it'\\''s' --scenario all --duration 30 --seed 11")
  t.equal(targetOptions('/service.ts', {}, { targetFile: '/service.ts' } as Home), '', 'the service of this repository need not be named')
})

t.test('the next command names the balancer of the run', async t => {
  t.equal(command({ ...verdict, scenario: 'rolling', environment: { rate: '400', balancer: 'nginx' } }), 'npm run verify -- --scenario rolling --duration 30 --rate 400 --balancer nginx --seed 11')
})
