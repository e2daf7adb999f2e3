import type { ServerResponse } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { HistoryFile, readHistory } from '../../history-file.ts'
import { isCompletion, type Completion, type Invocation, type Line, type OrderAnswered } from '../../history.ts'
import { Load, type LoadOptions } from '../../load/load.ts'
import { usualMix } from '../../load/mix.ts'
import toy, { answer, callIn, listen, orderOf, products } from './toy-service.ts'

type Options = Partial<LoadOptions> & { url: string }

const nothing = Object.fromEntries(Object.keys(usualMix).map(kind => [kind, 0]))
const { stream, ...withoutStream } = toy

function start (t: Test, { url, ...options }: Options): { load: Load, path: string, lines: () => Line[] } {
  const path = join(t.testdir(), 'history.jsonl')
  const history = new HistoryFile(path)
  const load = new Load({
    target: withoutStream,
    urls: [url],
    clients: 8,
    products,
    history,
    rate: 400,
    duration: 250,
    seed: 7,
    mix: { ...nothing, new: 1 },
    ...options
  })
  return { load, path, lines: () => readHistory(path).lines }
}

const invocations = (lines: Line[]): Invocation[] => lines.filter(line => line.type === 'invoke')
const completions = (lines: Line[]): Completion[] => lines.filter(isCompletion)

t.test('the history has the invocation before the service has the request', async t => {
  let path = ''
  const missing: string[] = []
  const { url } = await listen(t, async (request, response) => {
    const { lines } = readHistory(path)
    const call = await callIn(request)
    if (call.kind !== 'place') return
    if (!invocations(lines).some(({ operation }) => operation.kind === 'place' && operation.key === call.key)) missing.push(call.key)
    answer(response, 201, orderOf(call.key, call.order))
  })
  const started = start(t, { url })
  path = started.path
  await started.load.ended
  const lines = started.lines()
  t.same(missing, [])
  t.ok(invocations(lines).length > 20)
  t.same(completions(lines).filter(({ type }) => type !== 'ok'), [])
  t.match(started.load.counts, { invoked: invocations(lines).length, ok: completions(lines).length, fail: 0, info: 0, inFlight: 0 })
})

t.test('requests are sent when they are due, however slow the answers are', async t => {
  const { url: quick } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind === 'place') answer(response, 201, orderOf(call.key, call.order))
  })
  const { url: slow } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind === 'place') setTimeout(() => answer(response, 201, orderOf(call.key, call.order)), 30)
  })
  const invoked: Invocation[][] = []
  for (const url of [quick, slow]) {
    const { load, lines } = start(t, { url, clients: 1, rate: 200 })
    await load.ended
    invoked.push(invocations(lines()))
  }
  const [first = [], second = []] = invoked
  t.same(first.map(({ operation }) => operation), second.map(({ operation }) => operation), 'the same seed plans the same operations')
  const gaps = (of: Invocation[]): number[] => of.slice(1).map(({ scheduled }, i) => scheduled - (of[i]?.scheduled ?? 0))
  t.ok(gaps(first).every((gap, i) => Math.abs(gap - (gaps(second)[i] ?? 0)) < 0.01), 'they are due at the same times')
  t.ok(first.length > 25)
  t.ok(second.every(({ at, scheduled }) => at >= scheduled))
  // This many answers of 30 ms, one after the other, take longer than the arrivals: the last one has waited, which shows.
  const last = second.at(-1)
  t.ok(last !== undefined && last.at - last.scheduled > 250, 'the history shows the wait for a client')
})

t.test('at the rate max every client sends its next request as soon as it has its answer', async t => {
  const waiting: Array<() => void> = []
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind !== 'place') return
    waiting.push(() => answer(response, 201, orderOf(call.key, call.order)))
    // The first answer comes when all clients have sent their request: if one waited for anything else, all would wait.
    if (waiting.length === 4) for (const serve of waiting.splice(0)) serve()
  })
  const { load, lines } = start(t, { url, clients: 4, rate: 'max', duration: 500, timeoutMs: 1_000 })
  await load.ended
  const ok = completions(lines()).filter(({ type }) => type === 'ok').length
  t.ok(ok >= 8, `${ok} were answered`)
  t.equal(load.counts.acknowledged, ok)
})

t.test('at the rate max a client that found the service down waits before its next request', async t => {
  const { url, close } = await listen(t, () => {})
  close()
  const { load, lines } = start(t, { url, clients: 1, rate: 'max', duration: 600 })
  await load.ended
  const asked = invocations(lines())
  t.ok(asked.length > 1 && asked.length <= 4, `${asked.length} were asked`)
})

t.test('twins are under way at once, on two connections', async t => {
  const waiting = new Map<string, { port: number | undefined, response: ServerResponse }>()
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind !== 'place') return
    const { remotePort: port } = request.socket
    const twin = waiting.get(call.key)
    if (twin === undefined) {
      waiting.set(call.key, { port, response })
      return
    }
    t.not(twin.port, port)
    for (const each of [twin.response, response]) answer(each, 201, orderOf(call.key, call.order))
  })
  const { load, lines } = start(t, { url, clients: 2, mix: { ...nothing, twin: 1 }, rate: 100, timeoutMs: 5_000 })
  await load.ended
  t.ok(waiting.size > 5)
  t.same(completions(lines()).filter(({ type }) => type !== 'ok'), [])
})

t.test('the load follows pages by their cursor', async t => {
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind === 'list') answer(response, 200, { ids: ['a'], next: `after ${call.cursor ?? 'the start'}` })
  })
  const { load, lines } = start(t, { url, mix: { ...nothing, list: 1 }, rate: 100 })
  await load.ended
  const walks = Map.groupBy(invocations(lines()).flatMap(({ operation }) => operation.kind === 'list' ? operation : []), ({ walk }) => walk)
  t.ok(walks.size > 10)
  for (const pages of walks.values()) {
    t.same(pages.map(({ cursor }) => cursor), pages.map((_, i) => i === 0 ? undefined : `${'after '.repeat(i)}the start`))
    t.equal(new Set(pages.map(({ customer }) => customer)).size, 1)
  }
  t.same(new Set([...walks.values()].map(({ length }) => length)), new Set([2, 3, 40]))
})

t.test('an arrival that no client can take in time is recorded as not sent', async t => {
  let seen = 0
  const { url } = await listen(t, () => { seen++ })
  const { load, lines } = start(t, { url, clients: 1, rate: 200, timeoutMs: 100 })
  await load.ended
  const outcomes = completions(lines()).map(({ type, error }) => `${type} ${error}`)
  t.same(new Set(outcomes), new Set(['info timeout', 'fail timeout']))
  t.equal(outcomes.filter(outcome => outcome === 'info timeout').length, seen)
})

t.test('event streams are recorded, and resume where they ended', async t => {
  const resumed = Promise.withResolvers<void>()
  const { url } = await listen(t, async (request, response) => {
    if (!request.url?.startsWith('/stream/')) {
      const call = await callIn(request)
      if (call.kind === 'place') answer(response, 201, orderOf(call.key, call.order))
      return
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const lastId = Number(request.headers['last-event-id'] ?? 0)
    const event = `: a comment\r\n\r\nid: ${lastId + 1}\nevent: placed\ndata: {"orderId":"é",\ndata: "version":${lastId + 1},"type":"placed"}\n\n`
    // In the middle of a character, too.
    const bytes = Buffer.from(event)
    for (const byte of bytes) response.write(Buffer.of(byte))
    if (lastId === 0) response.end()
    else response.flushHeaders()
    if (lastId === 1) resumed.resolve()
  })
  const { load, lines } = start(t, { url, target: toy, duration: 60_000, rate: 20, patienceMs: 0 })
  await resumed.promise
  load.stop()
  await load.ended
  const events = lines().filter(line => line.type === 'event')
  t.match(events[0], { customer: /^customer-7-/, event: { orderId: 'é', version: 1, type: 'placed' } })
  const versions = new Map<string, number[]>()
  for (const { customer, event } of events) versions.set(customer, [...versions.get(customer) ?? [], event.version])
  t.ok([...versions.values()].every(seen => seen.every((version, i) => version === i + 1)), 'each event came once, in order')
})

t.test('the history says when a stream was opened, from which event, when it ended, and where it has a gap', async t => {
  const again = Promise.withResolvers<void>()
  const { url } = await listen(t, async (request, response) => {
    if (!request.url?.startsWith('/stream/')) return
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const lastId = request.headers['last-event-id']
    if (lastId === undefined) {
      response.end('id: 7\ndata: {"orderId":"a","version":1,"type":"placed"}\n\n')
    } else {
      response.write('event: gap\nid: 9\ndata: {"why":"restored"}\n\n')
      if (request.url.endsWith('-1')) again.resolve()
    }
  })
  const { load, lines } = start(t, { url, target: toy, duration: 60_000, rate: 1, mix: { ...nothing, list: 1 }, patienceMs: 0, timeoutMs: 1_000 })
  await again.promise
  load.stop()
  await load.ended
  const mine = lines().filter(line => (line.type === 'event' || line.type === 'stream') && line.customer === 'customer-7-1')
  t.match(mine, [
    { type: 'stream', state: 'opened', after: undefined },
    { type: 'event', event: { orderId: 'a' } },
    { type: 'stream', state: 'ended' },
    { type: 'stream', state: 'opened', after: '7' },
    ...mine.length === 6 ? [{ type: 'stream', state: 'gap' }] : [],
    { type: 'stream', state: 'closed' }
  ])
  t.ok(lines().some(line => line.type === 'stream' && line.state === 'gap'), 'a gap is recorded, and not as an event')
})

t.test('a stream stays open until it has sent everything that was acknowledged meanwhile, changes by staff included', async t => {
  const streams = new Map<string, ServerResponse>()
  const orders = new Map<string, { readonly customer: string, readonly order: OrderAnswered }>()
  const { url } = await listen(t, async (request, response) => {
    if (request.url?.startsWith('/stream/')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
      streams.set(request.url.slice('/stream/'.length), response)
      return
    }
    const call = await callIn(request)
    const before = 'id' in call ? orders.get(call.id) : undefined
    const order = call.kind === 'place'
      ? orderOf(call.key, call.order)
      : before && { ...before.order, version: before.order.version + 1, status: call.kind === 'pay' ? 'paid' : call.kind }
    if (order === undefined) return
    const { customer } = before ?? call
    orders.set(order.id, { customer, order })
    answer(response, 200, order)
    const { id: orderId, version, status: type } = order
    // After the last arrival, and the change by staff comes last of all.
    setTimeout(() => streams.get(customer)?.write(`data: ${JSON.stringify({ orderId, version, type })}\n\n`), call.customer === customer ? 900 : 1_800)
  })
  const { load, lines } = start(t, { url, target: toy, duration: 700, rate: 400, mix: { ...nothing, new: 3, transition: 3, fulfil: 4 }, patienceMs: 60_000 })
  await load.ended
  const opened = new Map(lines().flatMap((line, i) => line.type === 'stream' && line.state === 'opened' ? [[line.customer, i]] : []))
  t.equal(opened.size, 4)
  const told = new Set(lines().flatMap(line => line.type === 'event' ? `${line.event.orderId} ${line.event.version}` : []))
  const asked = new Map(lines().flatMap((line, i) => line.type === 'invoke' ? [[line.op, { i, customer: line.operation.customer }]] : []))
  const owed = completions(lines()).flatMap(({ op, order }) => {
    const { i, customer } = asked.get(op) ?? { i: 0, customer: '' }
    const owner = orders.get(order?.id ?? '')?.customer ?? ''
    return order !== undefined && i > (opened.get(owner) ?? Infinity) ? [{ name: `${order.id} ${order.version}`, isByStaff: customer !== owner }] : []
  })
  t.ok(owed.filter(({ isByStaff }) => isByStaff).length > 0)
  t.same(owed.filter(({ name }) => !told.has(name)), [])
  t.ok(told.size < completions(lines()).length, 'it does not wait for events that no stream owes')
})

t.test('a load that runs until it is told to finish then sends its last arrivals, and reads every list', async t => {
  let seen = 0
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    seen++
    if (call.kind === 'place') answer(response, 201, orderOf(call.key, call.order))
    else answer(response, 200, { ids: [] })
  })
  const { load, lines } = start(t, { url, duration: 100, mix: { ...nothing, new: 10, list: 1 }, untilFinished: true })
  while (load.counts.invoked === 0 || load.counts.inFlight > 0) await new Promise(resolve => setTimeout(resolve, 20))
  const before = seen
  load.burst(10, 0)
  t.ok(load.counts.inFlight >= 8, 'a burst is under way at once')
  load.finish(200)
  await load.ended
  const asked = invocations(lines())
  t.ok(asked.length > before + 10 + 20)
  t.equal(new Set(asked.slice(before).flatMap(({ operation }) => operation.kind === 'list' ? operation.customer : [])).size, 20)
})

t.test('a burst keeps the same number of requests under way for its duration, however quick the service is', async t => {
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind === 'place') answer(response, 201, orderOf(call.key, call.order))
    else answer(response, 404, { code: 'not-found' })
  })
  const { load, lines } = start(t, { url, rate: 1, duration: 60_000 })
  load.burst(10, 500)
  await new Promise(resolve => setTimeout(resolve, 50))
  t.ok(load.counts.inFlight >= 5)
  while (load.counts.inFlight > 0) await new Promise(resolve => setTimeout(resolve, 20))
  load.stop()
  await load.ended
  const sent = completions(lines()).filter(({ error }) => error !== 'hang-up')
  t.ok(sent.length > 50)
  t.ok(sent.every(({ status }) => status !== undefined), 'each request has its answer')
})

t.test('when the load is stopped, requests under way end and no new ones begin', async t => {
  const held: Array<() => void> = []
  let seen = 0
  const first = Promise.withResolvers<void>()
  const { url } = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind !== 'place') return
    seen++
    held.push(() => answer(response, 201, orderOf(call.key, call.order)))
    first.resolve()
  })
  const { load, lines } = start(t, { url, clients: 1, duration: 60_000, rate: 1 })
  await first.promise
  load.stop()
  for (const release of held) release()
  await load.ended
  t.equal(seen, 1)
  t.match(completions(lines()), [{ type: 'ok' }])
})

t.test('each outcome is recorded correctly when the service goes away', async t => {
  let count = 0
  const service = await listen(t, async (request, response) => {
    const call = await callIn(request)
    if (call.kind !== 'place') return
    if (++count === 10) service.close()
    else answer(response, 201, orderOf(call.key, call.order))
  })
  const { load, lines } = start(t, { url: service.url, clients: 1 })
  await load.ended
  const outcomes = completions(lines()).map(({ type, error = 'answered' }) => `${type} ${error}`)
  t.same(outcomes.slice(0, 10), [...Array(9).fill('ok answered'), 'info closed'])
  t.same(new Set(outcomes.slice(10)), new Set(['fail ECONNREFUSED']))
})
