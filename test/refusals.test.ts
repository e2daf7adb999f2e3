import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import { problems } from '../plugins/errors.ts'
import { startApp, type RunningApp } from './app.ts'

const members = ['detail', 'instance', 'status', 'title', 'type']

t.test('a refusal by the drain is the same problem as a refusal by the service', async t => {
  const { service, finish } = await startHeld(t)
  const late = await open(t, service)
  late.socket.write('GET /late')
  const slow = await open(t, service)
  slow.socket.write(`POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${service.token('alice')}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"currency"`)
  // The service has read both when it answers this later request.
  await service.ask('GET', '/livez')

  const closing = new Promise<void>(resolve => service.app.drain.on('closing', () => resolve()))
  void service.app.drain.start('test')
  await closing
  late.socket.write(' HTTP/1.1\r\nHost: a\r\n\r\n')
  const [routed, unread] = await Promise.all([late.text, slow.text])
  finish()

  const fromService = await startApp(t, { extend: app => app.get('/not-started', async () => { throw Object.assign(new Error('Too much.'), { statusCode: 503 }) }) })
  const own = await fromService.ask<object>('GET', '/not-started')
  for (const [what, body, id] of [
    ['the service', own.body, own.headers['x-request-id']],
    ['the drain, at the route', bodyOf(routed), headerOf(routed, 'x-request-id')],
    ['the drain, before the body has come', bodyOf(unread), undefined]
  ] as const) {
    t.match(body, { type: '/problems/not-started', title: problems['not-started'].title, status: 503, detail: /nothing was stored/i, instance: id ?? /^[0-9a-f-]{36}$/ }, what)
    t.same(Object.keys(body).sort(), members, what)
  }
})

async function startHeld (t: Test): Promise<{ service: RunningApp, finish: () => void }> {
  const service = await startApp(t, { extend: app => app.get('/late', { config: { drain: 'refuse' } }, async () => 'too late') })
  const { promise, resolve } = Promise.withResolvers<void>()
  void service.app.drain.track('held', promise)
  t.teardown(async () => resolve())
  return { service, finish: resolve }
}

async function open (t: Test, { url }: RunningApp) {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  t.teardown(async () => socket.destroy())
  await once(socket, 'connect')
  return { socket, text: everything(socket) }
}

async function everything (socket: AsyncIterable<unknown>): Promise<string> {
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}

function bodyOf (answer: string): object {
  return JSON.parse(answer.split('\r\n\r\n')[1] ?? '')
}

function headerOf (answer: string, name: string): string | undefined {
  return new RegExp(`^${name}: (.*)\r$`, 'im').exec(answer)?.[1]
}
