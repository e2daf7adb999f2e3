import t from 'tap'
import { classify, type Ending } from '../../load/classify.ts'
import type { Target } from '../../target.ts'

const operation = { kind: 'read', customer: 'alice', id: '1' } as const
const understand: Target['understand'] = (_, { status, body }) => ({ type: status === 200 ? 'ok' : 'fail', problem: JSON.parse(body) })
const answered = (status: number, body: string): Ending => ({ answer: { status, headers: {}, body } })

const table: Array<[string, Ending, object]> = [
  ['a whole answer is what the target makes of it', answered(200, '"fine"'), { type: 'ok', status: 200, problem: 'fine' }],
  ['so is a whole refusal', answered(409, '"gone"'), { type: 'fail', status: 409, problem: 'gone' }],
  ['what the target cannot understand is unknown', answered(200, '{"id":'), { type: 'info', status: 200, error: 'not-understood' }],
  ['nobody listened', { error: 'ECONNREFUSED', sent: false }, { type: 'fail', error: 'ECONNREFUSED' }],
  ['no connection in time', { error: 'UND_ERR_CONNECT_TIMEOUT', sent: false }, { type: 'fail', error: 'timeout' }],
  ['a reset before the first byte', { error: 'ECONNRESET', sent: false }, { type: 'fail', error: 'ECONNRESET' }],
  ['a reset after it', { error: 'ECONNRESET', sent: true }, { type: 'info', error: 'ECONNRESET' }],
  ['an end in order, after it', { error: 'UND_ERR_SOCKET', sent: true }, { type: 'info', error: 'closed' }],
  ['no answer in time', { error: 'timeout', sent: true }, { type: 'info', error: 'timeout' }],
  ['the client left', { error: 'hang-up', sent: true }, { type: 'info', error: 'hang-up' }],
  ['the client left in the middle of the answer', { error: 'hang-up', sent: true, status: 201 }, { type: 'info', error: 'hang-up' }],
  ['an end in the middle of the answer', { error: 'UND_ERR_SOCKET', sent: true, status: 201 }, { type: 'info', status: 201, error: 'cut' }],
  ['a reset in the middle of the answer', { error: 'ECONNRESET', sent: true, status: 201 }, { type: 'info', status: 201, error: 'cut' }]
]

for (const [name, ending, expected] of table) {
  t.test(name, async t => t.strictSame(classify(understand, operation, ending), expected))
}
