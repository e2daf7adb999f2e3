import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { NotCalled, type Call } from '../../orders/ports.ts'
import { callWithin, Outbound, Unclear, type EndedCall, type OutboundOptions } from '../../plugins/outbound.ts'
import { hangs, lost, startCalled, type Behaviour } from '../called.ts'

const ok: Behaviour = () => ({ status: 200, body: {} })
const failing: Behaviour = () => ({ status: 500 })

t.test('a call sends its timeout: the time that is left, or what the service allows if that is less', async t => {
  const called = await startCalled(t, ok)
  await outboundTo(t, called.url, { timeoutMs: 400 }).ask('x', callWithin(5_000, Infinity))
  await outboundTo(t, called.url, { timeoutMs: 400 }).ask('x', callWithin(5_000, 200.5))
  const timeouts = called.received.map(({ headers }) => Number(headers['x-request-timeout-ms']))
  t.ok(timeouts.every(Number.isInteger))
  t.ok((timeouts[0] ?? Infinity) <= 400 && (timeouts[1] ?? Infinity) <= 200, timeouts.join())
})

t.test('a call for which no time is left is not made', async t => {
  const called = await startCalled(t, ok)
  for (const call of [callWithin(0), callWithin(-5), { signal: AbortSignal.abort(), remainingMs: 1_000 }]) {
    await t.rejects(outboundTo(t, called.url).ask('x', call), NotCalled)
  }
  t.equal(called.received.length, 0)
})

t.test('a call that cannot connect counts as not called', async t => {
  const gone = await startCalled(t, ok)
  const plain = await startCalled(t, ok)
  await gone.stop()
  for (const [url, why] of [[gone.url, /ECONNREFUSED/], ['http://gateway.invalid', /ENOTFOUND|EAI_AGAIN/], [plain.url.replace('http:', 'https:'), /SSL|EPROTO/]] as const) {
    const error = await outboundTo(t, url).ask('x', plenty()).catch((error: unknown) => error)
    t.type(error, NotCalled, url)
    t.match(error, { message: /^THEIR_URL was not reached \(.*\)\. Nothing was done there\.$/ })
    t.match(error, { message: why })
  }
  t.equal(plain.received.length, 0)
})

for (const [what, behaviour] of Object.entries<Behaviour>({
  'a lost answer': lost,
  'a broken answer': (_request, response) => { response.writeHead(200, { 'content-length': '100' }).write('{', () => response.destroy()) },
  'a failure': failing
})) {
  t.test(`a call with ${what} is repeated with the same request, and succeeds`, async t => {
    const called = await startCalled(t, (request, response) => called.received.length < 3 ? behaviour(request, response) : ok(request, response))
    await outboundTo(t, called.url).ask('x', plenty())
    t.equal(called.received.length, 3)
    t.equal(new Set(called.received.map(({ method, path, body }) => `${method} ${path} ${body}`)).size, 1)
  })

  t.test(`a call with ${what} at each attempt has an unknown outcome`, async t => {
    const called = await startCalled(t, behaviour)
    const ended: EndedCall[] = []
    await t.rejects(outboundTo(t, called.url, { onEnd: one => ended.push(one) }).ask('x', plenty()), Unclear)
    t.equal(called.received.length, 3, 'after three attempts')
    t.match(ended, [{ name: 'THEIR_URL', kind: 'x', outcome: 'unknown' }])
  })
}

t.test('a call is unclear if one attempt may have arrived, even if the next could not connect', async t => {
  const called = await startCalled(t, () => { void called.stop() })
  await t.rejects(outboundTo(t, called.url).ask('x', plenty()), Unclear)
  t.equal(called.received.length, 1)
})

t.test('a call that is not answered in time is given up, and is unclear', async t => {
  const called = await startCalled(t, hangs)
  const controller = new AbortController()
  const call = outboundTo(t, called.url).ask('x', { signal: controller.signal, remainingMs: 60_000 })
  await called.reached(1)
  controller.abort()
  await t.rejects(call, Unclear)
  await t.rejects(outboundTo(t, called.url, { timeoutMs: 30 }).ask('x', plenty()), Unclear, 'by what the service allows')
  await t.rejects(outboundTo(t, called.url).ask('x', callWithin(30)), Unclear, 'by what the caller has left')
  t.equal(called.received.length, 3, 'no call is repeated')
})

t.test('a call does not follow a redirect', async t => {
  const elsewhere = await startCalled(t, ok)
  const called = await startCalled(t, () => ({ status: 307, headers: { location: elsewhere.url } }))
  await t.rejects(outboundTo(t, called.url).ask('x', plenty()), /THEIR_URL answered 307\. It may have done/)
  t.equal(elsewhere.received.length, 0)
})

t.test('a call with an answer that is too large is unclear', async t => {
  const called = await startCalled(t, () => ({ status: 200, body: { words: 'x'.repeat(70_000) } }))
  await t.rejects(outboundTo(t, called.url).ask('x', plenty()), Unclear)
})

t.test('a kind of call that fails too often is not made until a while later, and other kinds go on', async t => {
  const called = await startCalled(t, failing)
  const lines: string[] = []
  const outbound = outboundTo(t, called.url, { breakMs: 60_000, lines })
  for (let call = 0; call < 5; call++) await t.rejects(outbound.ask('charge', plenty()))
  const reached = called.received.length
  await t.rejects(outbound.ask('charge', plenty()), NotCalled)
  t.equal(called.received.length, reached)
  t.match(lines, [/fails too often/])
  called.behave(ok)
  await outbound.ask('find', plenty())
  await t.rejects(outbound.ask('charge', plenty()), NotCalled)

  called.behave(failing)
  const soon = outboundTo(t, called.url, { breakMs: 50, lines })
  for (let call = 0; call < 5; call++) await t.rejects(soon.ask('charge', plenty()))
  called.behave(ok)
  while (await soon.ask('charge', plenty()).then(() => false, error => error instanceof NotCalled)) await turn()
  t.match(lines.at(-1), /answers again/)
})

t.test('other calls do not wait for the call that probes an open breaker', async t => {
  const called = await startCalled(t, failing)
  const outbound = outboundTo(t, called.url, { breakMs: 0 })
  while (await outbound.ask('charge', plenty()).then(() => false, () => called.received.length < 5));
  called.behave(hangs)
  const before = called.received.length
  const probe = outbound.ask('charge', plenty())
  probe.catch(() => {})
  await called.reached(before + 1)
  await t.rejects(outbound.ask('charge', plenty()), NotCalled)
  t.equal(called.received.length, before + 1)
})

t.test('answers that refuse do not open the breaker', async t => {
  const called = await startCalled(t, () => ({ status: 422 }))
  const outbound = outboundTo(t, called.url, { breakMs: 60_000 })
  for (let call = 0; call < 20; call++) await t.rejects(outbound.ask('charge', plenty()), /refused with 422/)
  t.equal(called.received.length, 20, 'each call is made once')
})

t.test('the number of calls is bounded: some wait, and others are not made', async t => {
  const called = await startCalled(t, hangs)
  const outbound = outboundTo(t, called.url)
  const controller = new AbortController()
  const call: Call = { signal: controller.signal, remainingMs: 60_000 }
  const underWay = Array.from({ length: 64 }, async () => await outbound.ask('x', call).catch((error: unknown) => error))
  await called.reached(64)
  await t.rejects(outbound.ask('x', callWithin(30)), { name: 'NotCalled', message: /no time was left/ }, 'a waiting call ends with its own time')
  const waiting = Array.from({ length: 15 }, async () => await outbound.ask('x', call).catch((error: unknown) => error))
  await t.rejects(outbound.ask('x', plenty()), { name: 'NotCalled', message: /64 calls are under way and 16 wait/ })
  controller.abort()
  t.ok((await Promise.all(underWay)).every(error => error instanceof Unclear))
  t.ok((await Promise.all(waiting)).every(error => error instanceof NotCalled), 'a waiting call was not made')
  t.equal(called.received.length, 64)
  called.behave(ok)
  await outbound.ask('y', plenty())
})

t.test('retries are limited to a fifth of the calls, or ten', async t => {
  const called = await startCalled(t, failing)
  const outbound = outboundTo(t, called.url)
  // Different kinds, so that their breakers stay closed.
  for (let kind = 0; kind < 40; kind++) await t.rejects(outbound.ask(String(kind), plenty()))
  t.equal(called.received.length, 50)
})

t.test('close() ends the calls to another service that are under way', async t => {
  const called = await startCalled(t, hangs)
  const outbound = outboundTo(t, called.url)
  const call = outbound.ask('x', plenty())
  const ended = t.rejects(call, Unclear)
  await called.reached(1)
  await outbound.close()
  await ended
})

t.test('neither the errors of calls nor the log hold a secret', async t => {
  const lines: string[] = []
  const errors: unknown[] = []
  for (const behaviour of [lost, failing, () => ({ status: 302, headers: { location: 'http://x/?hunter2' } }), () => ({ status: 400, body: { error: 'hunter2 is wrong' } })] as Behaviour[]) {
    const called = await startCalled(t, behaviour)
    const outbound = outboundTo(t, called.url, { headers: { authorization: 'Bearer hunter2' }, lines })
    for (let call = 0; call < 5; call++) errors.push(await outbound.ask('x', plenty()).catch((error: unknown) => error))
    await called.stop()
    errors.push(await outbound.ask('x', plenty()).catch((error: unknown) => error))
  }
  t.equal(errors.length, 24)
  t.notMatch(lines.join('\n') + errors.map(error => `${String(error)} ${JSON.stringify(error)} ${String((error as Error).cause)}`).join('\n'), 'hunter2')
})

function plenty (): Call {
  return { signal: new AbortController().signal, remainingMs: 60_000 }
}

function outboundTo (t: Test, url: string, { lines = [], ...options }: Partial<OutboundOptions> & { lines?: string[] } = {}) {
  const keep = (_details: object, message: string): void => { lines.push(message) }
  const outbound = new Outbound({ name: 'THEIR_URL', url, timeoutMs: 30_000, log: { info: keep, warn: keep }, ...options })
  t.teardown(() => outbound.close())
  return {
    close: async () => await outbound.close(),
    ask: async (kind: string, call: Call) => await outbound.ask({
      kind,
      method: 'PUT',
      path: '/things/1',
      body: '{"a":1}',
      read: ({ status }) => {
        if (status !== 200) throw new Unclear(`It refused with ${status}.`, { status })
      }
    }, call)
  }
}
