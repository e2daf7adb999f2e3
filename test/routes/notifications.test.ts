import { createHmac, randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import notifications, { standardWebhooks } from '../../routes/notifications.ts'
import { startApp } from '../app.ts'
import { createTestDatabase } from '../postgres.ts'

const { url: databaseUrl } = await createTestDatabase(t)
const secret = `whsec_${Buffer.from('a secret of the gateway, for tests').toString('base64')}`
const id = randomUUID()
const body = JSON.stringify({ type: 'charge.updated', id, at: '2026-11-27T19:30:00.000Z' })

t.test('a notification with a valid signature wakes the settler for the id that it names', async t => {
  const { send, woken } = await start(t)
  const { status, text } = await send(signed(body))
  t.equal(status, 204)
  t.equal(text, '')
  t.same(woken, [id])
  t.equal((await send(signed(body))).status, 204, 'a repeated notification is accepted too')
  t.equal((await send({ ...signed(body), 'webhook-signature': `v2,x v1,${'A'.repeat(44)} ${signed(body)['webhook-signature']}` })).status, 204, 'one valid signature of several suffices, as while the secret is replaced')
  t.same(woken, [id, id, id])
})

t.test('the signature is that of the Standard Webhooks specification', async t => {
  // The specification's own example: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
  const read = standardWebhooks('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', () => 1_614_265_330_000)
  const headers = { 'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek', 'webhook-timestamp': '1614265330', 'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=' }
  t.throws(() => read(headers, Buffer.from('{"test": 2432232314}')), /violates its contract/, 'the signature of the example is valid, and its body breaks the contract')
  t.throws(() => read(headers, Buffer.from('{"test": 2432232315}')), /signature/)
})

t.test('a secret without the prefix whsec_ is taken as it is', async t => {
  const plain = 'a secret of the gateway, for tests'
  t.equal(standardWebhooks(plain)(signed(body, { key: Buffer.from(plain) }), Buffer.from(body)), id)
})

t.test('a notification without a valid signature is refused, and wakes nothing', async t => {
  const { send, woken } = await start(t)
  const good = signed(body)
  const { 'webhook-signature': signature, ...unsigned } = good
  const cases: Record<string, [headers: Record<string, string>, sent?: string]> = {
    'no headers': [{}],
    'no signature': [unsigned],
    'another body': [good, body.replace('charge', 'refund')],
    'another id': [{ ...good, 'webhook-id': 'msg_2' }],
    'another time': [{ ...good, 'webhook-timestamp': String(Number(good['webhook-timestamp']) + 1) }],
    'another secret': [signed(body, { key: Buffer.from('another') })],
    'another scheme': [{ ...good, 'webhook-signature': signature.replace('v1,', 'v1a,') }],
    'half a signature': [{ ...good, 'webhook-signature': signature.slice(0, 20) }],
    'an empty signature': [{ ...good, 'webhook-signature': 'v1,' }],
    'more than five minutes ago': [signed(body, { at: Date.now() - 301_000 })],
    'from a clock far ahead': [signed(body, { at: Date.now() + 320_000 })],
    'no time': [signed(body, { timestamp: 'now' })]
  }
  for (const [what, [headers, sent = body]] of Object.entries(cases)) {
    const { status, body: problem, headers: answered } = await send(headers, sent)
    t.equal(status, 401, what)
    t.match(problem, { type: '/problems/signature-invalid', detail: /Nothing was done\.$/ })
    t.ok(answered['www-authenticate'])
  }
  t.equal((await send(signed(body, { at: Date.now() - 290_000 }))).status, 204, 'a notification of almost five minutes ago is accepted')
  t.same(woken, [id])
})

t.test('a signed notification that breaks the contract is refused', async t => {
  const { send, woken } = await start(t)
  for (const sent of ['', '{', '[]', '{"type":"charge.updated"}', '{"type":"charge.updated","id":"1 OR 1=1"}']) {
    const { status, body: problem } = await send(signed(sent), sent)
    t.equal(status, 400, sent)
    t.match(problem, { type: '/problems/invalid-request' })
  }
  const large = JSON.stringify({ ...JSON.parse(body), more: 'x'.repeat(20_000) })
  t.equal((await send(signed(large), large)).status, 413)
  t.same(woken, [])
})

t.test('the route of notifications does not change how other routes parse bodies', async t => {
  const { ask, token } = await start(t)
  t.equal((await ask('POST', '/orders', { token: token('alice'), body: '{"a":' })).status, 400)
})

async function start (t: Test) {
  const woken: string[] = []
  const running = await startApp(t, {
    databaseUrl,
    extend: app => { void app.register(notifications, { read: standardWebhooks(secret), wake: async id => { woken.push(id) } }) }
  })
  return { ...running, woken, send: async (headers: Record<string, string>, sent = body) => await running.ask('POST', '/payments/notifications', { body: sent, headers }) }
}

function signed (sent: string, { key = Buffer.from(secret.slice('whsec_'.length), 'base64'), at = Date.now(), timestamp = String(Math.floor(at / 1_000)) } = {}) {
  const message = `msg_1.${timestamp}.${sent}`
  return { 'webhook-id': 'msg_1', 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${createHmac('sha256', key).update(message).digest('base64')}` }
}
