import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { sabotaged } from '../../controls/sabotage.ts'
import type { SaboteurName } from '../../controls/saboteurs/saboteurs.ts'
import { signToken } from '../../../auth/local-token.ts'
import { startProgram } from '../../../test/program.ts'
import type { Target } from '../../../verify/target.ts'

/** A service that the saboteurs do not know: it contains no code of this repository. */
const program = `
import { createServer } from 'node:http'
const order = { id: '01a20873-3a8f-756e-a3a1-ba0a717ded04', customer: 'alice', status: 'placed', version: 1, total: 5, createdAt: '2026-01-01T00:00:00.000Z', items: [{ sku: 'ale', quantity: 1, unitPrice: 5 }] }
const event = version => 'data: ' + JSON.stringify({ orderId: order.id, version, type: version === 1 ? 'placed' : 'paid' }) + '\\n\\n'
const server = createServer((request, response) => {
  if (request.url === '/orders/stream') {
    response.setHeader('content-type', 'text/event-stream')
    response.write(event(1).slice(0, 9))
    response.end(event(1).slice(9) + event(2))
    return
  }
  response.writeHead(request.method === 'POST' ? 201 : 200, { 'Content-Type': 'application/json', etag: '"1"' })
  response.end(JSON.stringify(request.url === '/orders' && request.method === 'GET' ? { orders: [1, 2, 3].map(n => ({ ...order, total: n })), next: null } : order))
}).listen(0, '127.0.0.1', () => console.log(server.address().port))
process.on('SIGTERM', () => { process.exitCode = 3; server.close(); server.closeIdleConnections() })
`

t.test('a saboteur spoils the answers to its customer only, in a service that it does not know', async t => {
  const ask = await service(t, ['read-total'], 'alice')
  t.match(await (await ask('alice', '/orders/01a20873-3a8f-756e-a3a1-ba0a717ded04')).json(), { total: 6 })
  t.match(await (await ask('bob', '/orders/01a20873-3a8f-756e-a3a1-ba0a717ded04')).json(), { total: 5 })
  t.match(await (await ask('alice', '/orders')).json(), { orders: [{ total: 1 }, { total: 2 }, { total: 3 }] })
})

t.test('a saboteur acts three times, and records each', async t => {
  const ask = await service(t, ['wrong-etag'], null)
  const etags = []
  for (let i = 0; i < 5; i++) etags.push((await ask('alice', '/orders', 'POST')).headers.get('etag'))
  t.strictSame(etags, [...Array.from({ length: 3 }, () => '"7"'), '"1"', '"1"'])
  t.equal(ask.did('wrong-etag'), 3)
})

t.test('several saboteurs in one process do not disturb each other', async t => {
  const ask = await service(t, ['page-total', 'page-twice', 'false-out-of-stock'], null)
  t.match(await (await ask('alice', '/orders')).json(), { orders: [{ total: 1 }, { total: 3 }, { total: 1 }] })
  t.equal((await ask('alice', '/orders', 'POST')).status, 409)
})

t.test('a saboteur removes or changes events of a stream, however they are split into chunks', async t => {
  const skips = await service(t, ['stream-skips'], null)
  t.strictSame(versions(await (await skips('alice', '/orders/stream')).text()), [1])
  const outOfOrder = await service(t, ['stream-out-of-order'], null)
  t.strictSame(versions(await (await outOfOrder('alice', '/orders/stream')).text()), [2, 1])
})

t.test('a saboteur of the stop ends the process before the service gets the signal', async t => {
  const { end } = await service(t, ['exit-at-once'], null)
  t.strictSame(await end(), [0, null])
})

t.test('without a saboteur the service stops as usual', async t => {
  const { end } = await service(t, ['read-total'], null)
  t.strictSame(await end(), [3, null])
})

interface Ask {
  (customer: string, path: string, method?: string): Promise<Response>
  end: () => Promise<unknown[]>
  did: (saboteur: string) => number
}

async function service (t: Test, saboteurs: readonly SaboteurName[], customer: string | null): Promise<Ask> {
  const directory = t.testdir({ 'service.mjs': program })
  const plain = { start: () => ({ command: [process.execPath, join(directory, 'service.mjs')], env: {} }) } as unknown as Target
  const target = saboteurs.reduce((target, name) => sabotaged(target, name, customer), plain)
  const { command, env } = target.start({ directory } as Parameters<Target['start']>[0], {} as Parameters<Target['start']>[1])
  const { child, line, exited } = startProgram(t, command, {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const port = await line(/^\d+$/)
  return Object.assign(async (customer: string, path: string, method = 'GET') => {
    const token = signToken({ secret: 'of no matter', sub: customer })
    return await fetch(`http://127.0.0.1:${port}${path}`, { method, headers: { authorization: `Bearer ${token}`, connection: 'close' } })
  }, {
    end: async () => {
      child.kill('SIGTERM')
      return await exited
    },
    did: (saboteur: string) => readFileSync(join(directory, 'sabotage.jsonl'), 'utf8').split(`"saboteur":"${saboteur}"`).length - 1
  })
}

function versions (text: string): number[] {
  return text.split('\n').flatMap(line => line.startsWith('data: ') ? (JSON.parse(line.slice(6)) as { version: number }).version : [])
}
