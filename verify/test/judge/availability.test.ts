import { test } from 'tap'
import type { Completion, Line, Purpose } from '../../history.ts'
import { judge } from '../../judge/judge.ts'
import { trueHistory } from './true-history.ts'

/** A read that was due at `due`, sent 10 ms later, and ended as said. */
function read (op: number, due: number, end?: Omit<Completion, 'op'>, purpose: Purpose = 'read'): Line[] {
  const invocation: Line = { type: 'invoke', op, at: due + 10, scheduled: due, purpose, operation: { kind: 'read', customer: 'alice', id: 'order-1' } }
  return end ? [invocation, { op, ...end }] : [invocation]
}

function judged (lines: Line[], at = 0) {
  return judge({ ...trueHistory([]), history: lines, faults: [{ kind: 'term', at, exitCode: 0, drainMs: 5 }] })
}

test('a request is in flight from its sending to its answer, if its client waits', async t => {
  const lines = [
    ...read(1, 0, { type: 'ok', at: 100, status: 200 }),
    ...read(2, 50, { type: 'info', at: 70, error: 'ECONNRESET' }),
    ...read(3, 0),
    ...read(4, 0, { type: 'info', at: 100, error: 'hang-up' }, 'hang-up')
  ]
  for (const [at, inFlight] of [[9, 0], [10, 2], [65, 3], [70, 2], [100, 1]] as const) {
    t.match(judged(lines, at).faults, [{ kind: 'term', at, exitCode: 0, drainMs: 5, inFlight }], `at ${at}`)
  }
})

test('a request has failed if it got no answer, a 5xx, or a refusal although it was correct', async t => {
  const failed: Array<Omit<Completion, 'op'> | undefined> = [
    undefined,
    { type: 'info', at: 20, error: 'timeout' },
    { type: 'info', at: 20, error: 'cut', status: 200 },
    { type: 'info', at: 20, status: 500, problem: 'internal' },
    { type: 'info', at: 20, status: 503, problem: 'outcome-unknown' },
    { type: 'fail', at: 20, status: 503, problem: 'not-started' },
    { type: 'fail', at: 20, status: 429, problem: 'rate-limited' },
    { type: 'fail', at: 20, status: 401, problem: 'unauthenticated' },
    { type: 'fail', at: 20, error: 'ECONNREFUSED' }
  ]
  for (const end of failed) {
    t.equal(judged(read(1, 0, end)).failedRequests, 1, JSON.stringify(end))
    t.equal(judged(read(1, 0, end, 'hang-up')).failedRequests, 0, 'a request whose client hung up has not failed')
  }
})

test('a request that got an answer to its question has not failed, even if the answer is no', async t => {
  t.equal(judged(read(1, 0, { type: 'ok', at: 20, status: 200 })).failedRequests, 0)
  for (const problem of ['out-of-stock', 'unknown-product', 'idempotency-key-reused', 'not-found', 'transition-not-allowed', 'version-mismatch', 'invalid-request', 'payment-declined', 'payment-under-way']) {
    t.equal(judged(read(1, 0, { type: 'fail', at: 20, status: 409, problem })).failedRequests, 0, problem)
  }
})

test('a request that was told where to ask for the outcome has not failed', async t => {
  t.equal(judged(read(1, 0, { type: 'info', at: 20, status: 202, payment: { id: 'p1', state: 'unknown' } })).failedRequests, 0)
})

test('latency counts from the time that a request was due to its whole answer', async t => {
  const lines = Array.from({ length: 100 }, (_, i) => read(i + 1, 1_000 * i, { type: 'ok', at: 1_000 * i + i + 1, status: 200 })).flat()
  const cut = read(101, 0, { type: 'info', at: 9_000, status: 200, error: 'cut' })
  t.same(judged([...lines, ...cut]).latency, { p50: 50, p99: 99, max: 100 })
  t.same(judged(cut).latency, { p50: 0, p99: 0, max: 0 }, 'without answers the latency is 0')
})

test('operations are counted by purpose and outcome', async t => {
  const lines = [...read(1, 0), ...read(2, 0, { type: 'ok', at: 20, status: 200 }), ...read(3, 0, { type: 'fail', at: 20, status: 404 }, 'hang-up')]
  t.same(judged(lines).operations, { read: { ok: 1, fail: 0, info: 1 }, 'hang-up': { ok: 0, fail: 1, info: 0 } })
})
