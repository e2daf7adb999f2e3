import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { problems } from '../../plugins/errors.ts'
import { startApp, type Answer } from '../app.ts'
import { serviceWaitsForLock } from '../faults.ts'

interface Problem { type: string, title: string, status: number, detail: string, instance: string, errors?: Array<{ in: string, path: string }> }

const logged: Array<Record<string, unknown>> = []
const { ask, sql, token, url } = await startApp(t, {
  log: { write: (line: string) => { logged.push(JSON.parse(line)) } },
  extend: app => {
    app.get('/broken', async () => { throw new Error('the password is hunter2') })
    app.get('/broken/late', async (_request, reply) => await reply.header('x-kept', '1').send({ cannot: 1n }))
  }
})
const alice = token('alice')
const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }], reference: null }

async function post (body: unknown, headers = {}): Promise<Answer<Problem>> {
  return await ask<Problem>('POST', '/orders', { token: alice, body, headers: { 'idempotency-key': randomUUID(), ...headers } })
}

function isProblem (t: Test, answer: Answer<Problem>, status: number, type: string, what: string): void {
  t.equal(answer.status, status, what)
  t.equal(answer.headers['content-type'], 'application/problem+json')
  t.match(answer.body, { type: `/problems/${type}`, title: /\S/, status, detail: /\S/, instance: answer.headers['x-request-id'] })
}

t.test('the API has exactly these types of problems, with these statuses', async t => {
  t.same(Object.fromEntries(Object.entries(problems).map(([type, { status }]) => [type, status])), {
    'idempotency-key-missing': 400,
    'invalid-request': 400,
    unauthenticated: 401,
    'signature-invalid': 401,
    'payment-declined': 402,
    forbidden: 403,
    'customer-suspended': 403,
    'customer-unknown': 403,
    'not-found': 404,
    'out-of-stock': 409,
    'transition-not-allowed': 409,
    'payment-under-way': 409,
    'price-changed': 409,
    'not-returnable': 409,
    'too-many-webhooks': 409,
    'not-refundable': 409,
    'event-not-dead': 409,
    'version-mismatch': 412,
    'precondition-required': 428,
    'idempotency-key-reused': 422,
    'unknown-product': 422,
    'rate-limited': 429,
    'internal-error': 500,
    'not-started': 503,
    'outcome-unknown': 503
  })
})

t.test('a path or a method without a route is answered with a 404 problem', async t => {
  isProblem(t, await ask('GET', '/'), 404, 'not-found', 'the root')
  isProblem(t, await ask('GET', '/orders/a/b/c', { token: alice }), 404, 'not-found', 'no such path')
  isProblem(t, await ask('GET', '//livez'), 404, 'not-found', 'two slashes')
  for (const method of ['DELETE', 'PATCH', 'OPTIONS', 'TRACE'] as const) isProblem(t, await ask(method, '/orders', { token: alice }), 404, 'not-found', method)
})

t.test('a URL that cannot be decoded, or is too long, is answered with a problem', async t => {
  for (const [path, status] of [['/orders/%ZZ', 400], ['/orders/%ff', 400], [`/orders/${'a'.repeat(200)}`, 414]] as const) {
    const answer = await ask<Problem>('GET', path, { token: alice })
    t.equal(answer.status, status)
    t.equal(answer.headers['content-type'], 'application/problem+json')
    t.match(answer.body, { type: /\/invalid-request$/, status, instance: /\S/ })
  }
})

t.test('a body that cannot be read is answered with a problem', async t => {
  isProblem(t, await post('{"currency":'), 400, 'invalid-request', 'malformed')
  isProblem(t, await post(''), 400, 'invalid-request', 'empty')
  isProblem(t, await post('{"__proto__":{"admin":true},"currency":"EUR","items":[]}'), 400, 'invalid-request', 'with a poisoned prototype')
  isProblem(t, await post('{"constructor":{"prototype":{"admin":true}}}'), 400, 'invalid-request', 'with a poisoned constructor')
  for (const type of ['text/plain', 'application/xml', 'application/x-www-form-urlencoded', 'application/jsonx', 'json', '']) {
    isProblem(t, await post(JSON.stringify(order), { 'content-type': type }), 415, 'invalid-request', `type ${type}`)
  }
  isProblem(t, await post(JSON.stringify({ ...order, reference: 'r'.repeat(1_048_576) })), 413, 'invalid-request', 'above 1 MiB')
  isProblem(t, await post(JSON.stringify({ ...order, reference: 'r'.repeat(65_536) })), 413, 'invalid-request', 'above 64 KiB')
  isProblem(t, await post('['.repeat(500_000)), 413, 'invalid-request', 'deep and long')
  for (const deep of ['['.repeat(65_000), '{"a":'.repeat(17) + '1' + '}'.repeat(17), `{"currency":"EUR","items":${'['.repeat(16)}"]"${']'.repeat(16)}}`]) {
    const refused = await post(deep)
    isProblem(t, refused, 400, 'invalid-request', 'deep')
    t.match(refused.body, { detail: /nested more than 16 levels/ })
  }
})

t.test('the problem of an invalid order names the wrong field', async t => {
  const wrong: Array<[path: string, body: unknown]> = [
    ['', []],
    ['', { items: order.items }],
    ['', { currency: 'EUR' }],
    ['/currency', { ...order, currency: 1 }],
    ['/items', { ...order, items: {} }],
    ['/items', { ...order, items: [] }],
    ['/items/0', { ...order, items: [1] }],
    ['/items/0', { ...order, items: [{ sku: 'crisps' }] }],
    ['/items/1/sku', { ...order, items: [...order.items, { sku: '', quantity: 1 }] }],
    ['/items/1/quantity', { ...order, items: [...order.items, { sku: 'crisps', quantity: true }] }],
    ['/items/0/price', { ...order, items: [{ sku: 'crisps', quantity: 1, price: 1 }] }],
    ['/reference', { ...order, reference: {} }],
    ['/note', { ...order, note: 'no field of an order' }]
  ]
  for (const [path, body] of wrong) {
    const answer = await post(body)
    isProblem(t, answer, 400, 'invalid-request', path)
    t.match(answer.body.errors?.[0], { in: 'body', path, message: /\S/ })
    t.match(answer.body.detail, /Nothing was stored/)
  }
  t.equal((await sql.query('SELECT FROM orders')).rowCount, 0)
})

t.test('a failure of the service shows the client its id only, and the log has the rest', async t => {
  for (const path of ['/broken', '/broken/late']) {
    const answer = await ask<Problem>('GET', path)
    isProblem(t, answer, 500, 'internal-error', path)
    t.notMatch(answer.text, /hunter2|BigInt|at .*\.ts/)
    const line = logged.find(({ level, reqId }) => level === 50 && reqId === answer.body.instance)
    t.ok(line, 'it is logged as an error')
  }
  t.match(JSON.stringify(logged), /hunter2/)
})

t.test('no log line holds a token', async t => {
  await post(order)
  await ask('GET', '/orders', { token: `${alice}x` })
  t.ok(logged.length > 20)
  t.notMatch(JSON.stringify(logged), alice.split('.')[1])
})

t.test('bytes that are no HTTP are answered with a problem, and the connection ends', async t => {
  const bad: Array<[what: string, bytes: string, status: number]> = [
    ['no request', 'GARBAGE\r\n\r\n', 400],
    ['two lengths', 'POST /orders HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n', 400],
    ['a length and chunks', 'POST /orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n', 400],
    ['a head above 16 KiB', `GET /livez HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`, 431]
  ]
  for (const [what, bytes, status] of bad) {
    const socket = await open(t)
    socket.write(bytes)
    const [head = '', body = ''] = (await everything(socket)).split('\r\n\r\n')
    t.match(head, `HTTP/1.1 ${status} `, what)
    t.match(head, 'Content-Type: application/problem+json')
    t.match(JSON.parse(body), { type: '/problems/invalid-request', title: problems['invalid-request'].title, status, detail: /Nothing was stored/, instance: /\S/ })
    t.ok(logged.some(({ reqId }) => reqId === JSON.parse(body).instance), 'the log has it under its id')
  }
})

t.test('an order keeps its answer if bytes that are no HTTP follow it', async t => {
  const key = randomUUID()
  const body = JSON.stringify(order)
  await sql.query('BEGIN')
  await sql.query("SELECT FROM products WHERE sku = 'ale-pint' FOR UPDATE")
  const socket = await open(t)
  socket.write(`POST /orders HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${alice}\r\nIdempotency-Key: ${key}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  await serviceWaitsForLock(sql)
  socket.write('GARBAGE\r\n\r\n')
  // This is served after those bytes are read, because they came on an older connection.
  await ask('GET', '/livez')
  await sql.query('ROLLBACK')
  t.match(await everything(socket), /^HTTP\/1\.1 201 [^]*"status":"placed"[^]*HTTP\/1\.1 400 /, 'the answer of the order comes first')
  t.equal((await sql.query('SELECT FROM orders WHERE idempotency_key = $1', [key])).rowCount, 1)
})

t.test('the largest possible order is placed, with every character escaped', async t => {
  const skus = Array.from({ length: 100 }, (_, n) => String(n).padStart(64, 's'))
  await sql.query("INSERT INTO products SELECT sku, sku, 1, 'EUR', 2000000000 FROM unnest($1::text[]) AS sku", [skus])
  const escaped = (text: string): string => `"${[...text].map(character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}"`
  const items = skus.map(sku => `{${escaped('sku')}:${escaped(sku)},${escaped('quantity')}:2000000000}`).join(',')
  const body = `{${escaped('currency')}:${escaped('EUR')},${escaped('items')}:[${items}],${escaped('reference')}:"${'\\ud83c\\udf7a'.repeat(255)}",${escaped('expectedTotal')}:200000000000}`
  t.ok(body.length > 45_000 && body.length < 60_000, `${body.length} bytes`)
  t.equal((await post(body)).status, 201)
  t.match((await post(JSON.stringify({ ...order, reference: '[{'.repeat(100) + '\\"[' }))).status, 201, 'brackets in a text are no levels')
})

async function open (t: Test): Promise<Socket> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => { socket.destroy() })
  await once(socket, 'connect')
  return socket
}

async function everything (socket: Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  return text
}
