import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { httpPublisher } from '../../plugins/http-publisher.ts'

const message = { orderId: '01997a3c-0000-7000-8000-000000000001', version: 2, type: 'paid' as const, customer: 'alice', currency: 'EUR', total: 9_007_199_254_740_991, at: '2026-11-27T19:30:00.000Z' }
const never = new AbortController().signal

t.test('the publisher posts events as a batch of CloudEvents', async t => {
  const { url, received } = await startReceiver(t)
  await httpPublisher({ url, token: 'hush' }).publish([message, { ...message, orderId: 'another', version: 1, type: 'placed' }], never)
  const [{ method, headers, body } = { method: '', headers: {}, body: '' }] = received
  t.equal(method, 'POST')
  t.match(headers, { 'content-type': 'application/cloudevents-batch+json; charset=utf-8', authorization: 'Bearer hush' })
  t.match(JSON.parse(body), [
    { specversion: '1.0', id: `${message.orderId}/2`, source: '/orders', type: 'order.paid', subject: message.orderId, time: message.at, data: message },
    { id: 'another/1', type: 'order.placed' }
  ])
})

for (const status of [301, 400, 429, 503]) {
  t.test(`an answer of ${status} does not acknowledge events`, async t => {
    const { url } = await startReceiver(t, status)
    await t.rejects(httpPublisher({ url, token: 'hush' }).publish([message], never), new RegExp(status === 301 ? 'redirect' : `EVENTS_URL answered ${status}: not now`))
  })
}

t.test('an answer that breaks off does not acknowledge events', async t => {
  const { url } = await startReceiver(t, 200, true)
  await t.rejects(httpPublisher({ url }).publish([message], never), /EVENTS_URL gave no whole answer: other side closed/)
})

t.test('a publish to a receiver that is down fails with a reason, without the token', async t => {
  const { url, close } = await startReceiver(t)
  await close()
  await t.rejects(httpPublisher({ url, token: 'hush' }).publish([message], never), { message: /^EVENTS_URL gave no whole answer: connect ECONNREFUSED/ })
})

t.test('a publish that takes too long is aborted with the lease', async t => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  t.teardown(() => { server.closeAllConnections(); server.close() })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await t.rejects(httpPublisher({ url: `http://127.0.0.1:${port}` }).publish([message], AbortSignal.timeout(50)), /EVENTS_URL gave no whole answer: The operation was aborted/)
})

async function startReceiver (t: Test, status = 204, isCut = false) {
  const received: Array<{ method: string | undefined, headers: IncomingHttpHeaders, body: string }> = []
  const server = createServer((request, response) => {
    void text(request).then(body => {
      received.push({ method: request.method, headers: request.headers, body })
      if (isCut) {
        response.writeHead(status, { 'content-length': '100' }).write('half', () => response.destroy())
      } else {
        response.writeHead(status, status === 301 ? { location: '/elsewhere' } : {}).end(status < 300 ? undefined : 'not now')
      }
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  }
  t.teardown(() => { if (server.listening) return close() })
  return { url: `http://127.0.0.1:${port}/events`, received, close }
}
