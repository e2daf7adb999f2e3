import { join } from 'node:path'
import t, { type Test } from 'tap'
import { HistoryFile, readHistory } from '../../history-file.ts'
import type { Line, Operation } from '../../history.ts'
import { Clients } from '../../load/clients.ts'
import { lastOpOf, ordersToSettle, settle } from '../../load/settle.ts'
import toy, { answer, callIn, listen, orderOf } from './toy-service.ts'

type Place = Extract<Operation, { kind: 'place' }>

const place = (key: string, quantity = 1, customer = 'alice'): Place => ({ kind: 'place', customer, key, order: { currency: 'EUR', items: [{ sku: 'plain', quantity }] } })
const invoke = (op: number, operation: Operation): Line => ({ type: 'invoke', op, at: op, scheduled: op, purpose: 'new', operation })
const complete = (op: number, type: 'ok' | 'fail' | 'info'): Line => ({ type, op, at: op + 0.5 })

t.test('acknowledged orders are settled first, then the unknown ones; refused ones are not', async t => {
  const lines = [
    invoke(1, place('never answered')),
    invoke(2, place('unknown')), complete(2, 'info'),
    invoke(3, place('refused')), complete(3, 'fail'),
    invoke(4, place('unknown, then refused')), complete(4, 'info'), invoke(5, place('unknown, then refused')), complete(5, 'fail'),
    invoke(6, place('unknown, then acknowledged')), complete(6, 'info'), invoke(7, place('unknown, then acknowledged')), complete(7, 'ok'),
    invoke(8, place('reused', 1)), complete(8, 'ok'), invoke(9, place('reused', 2)), complete(9, 'info'), invoke(10, place('reused', 3)), complete(10, 'ok'),
    invoke(11, { kind: 'read', customer: 'alice', id: '1' }), complete(11, 'ok'),
    invoke(12, place('unknown', 1, 'bob')), complete(12, 'ok')
  ]
  t.same([...ordersToSettle(lines)], [
    place('unknown, then acknowledged'),
    place('reused', 1),
    place('unknown', 1, 'bob'),
    place('unknown'),
    place('unknown, then refused'),
    place('never answered')
  ])
  t.equal(lastOpOf(lines), 12)
})

async function settled (t: Test, url: string, { patienceMs }: { patienceMs?: number } = {}): Promise<Line[]> {
  const path = join(t.testdir(), 'settle.jsonl')
  const history = new HistoryFile(path)
  const clients = new Clients({ target: toy, urls: [url], clients: 2, history, lastOp: 100 })
  const orders = [place('one'), place('two'), place('three')]
  await settle({ clients, orders, signal: new AbortController().signal, ...patienceMs !== undefined && { patienceMs } })
  await clients.close()
  return readHistory(path).lines
}

t.test('the settling repeats each order until the answer is definite', async t => {
  const answers: Record<string, number[]> = { one: [201], two: [503, 429, 500, 201], three: [409] }
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request) as Place
    const status = answers[call.key]?.shift() ?? 599
    answer(response, status, status === 201 ? orderOf(call.key, call.order) : 'no')
  })
  const lines = await settled(t, url)
  t.same(answers, { one: [], two: [], three: [] })
  t.same(new Set(lines.flatMap(line => line.type === 'invoke' ? [line.purpose] : [])), new Set(['settle']))
  t.same(lines.flatMap(line => line.type === 'invoke' ? [line.op] : []).sort(), [101, 102, 103, 104, 105, 106])
})

t.test('the settling ends when no client gets a definite answer for long', async t => {
  const { url } = await listen(t, (_, response) => answer(response, 503, 'no'))
  const lines = await settled(t, url, { patienceMs: 100 })
  t.same(new Set(lines.map(({ type }) => type)), new Set(['invoke', 'fail']))
  t.equal(lines.some(line => line.type === 'invoke' && line.operation.kind === 'place' && line.operation.key === 'three'), false)
})
