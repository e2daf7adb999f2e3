import { randomUUID } from 'node:crypto'
import t from 'tap'
import { startApp } from '../app.ts'

const { ask, sql, token } = await startApp(t)
const alice = token('alice')
const staff = token('boss', { staff: true })

async function placed (): Promise<string> {
  const body = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }
  return (await ask<{ id: string }>('POST', '/orders', { token: alice, body, headers: { 'idempotency-key': randomUUID() } })).body.id
}

t.test('a read with If-None-Match gets 304 and no body if the version is the current one', async t => {
  for (const path of [`/orders/${await placed()}`, '/products/ale-pint']) {
    const { headers: { etag }, body } = await ask('GET', path, { token: alice })
    for (const tag of [String(etag), `W/${String(etag)}`, `"a,b", ${String(etag)}`, '*']) {
      const answer = await ask('GET', path, { token: alice, headers: { 'if-none-match': tag } })
      t.same([answer.status, answer.text, answer.headers.etag], [304, '', etag], `${path} with ${tag}`)
    }
    const answer = await ask('GET', path, { token: alice, headers: { 'if-none-match': '"7000"' } })
    t.same([answer.status, answer.body], [200, body])
    t.equal((await ask('HEAD', path, { token: alice, headers: { 'if-none-match': String(etag) } })).status, 304)
  }
})

t.test('a read with If-Match gets 412 if the version is another one', async t => {
  for (const path of [`/orders/${await placed()}`, '/products/ale-pint']) {
    const { headers: { etag } } = await ask('GET', path, { token: alice })
    for (const tag of ['"7000"', `W/${String(etag)}`]) t.match(await ask('GET', path, { token: alice, headers: { 'if-match': tag } }), { status: 412, headers: { 'content-type': 'application/problem+json' }, body: { type: /\/version-mismatch$/, instance: /\S/ } })
    for (const tag of ['*', String(etag), `"7000",${String(etag)}`]) t.equal((await ask('GET', path, { token: alice, headers: { 'if-match': tag } })).status, 200, tag)
  }
})

t.test('a resource without a version matches no tag', async t => {
  for (const path of ['/orders', '/products', `/orders/${await placed()}/events`]) {
    t.equal((await ask('GET', path, { token: alice, headers: { 'if-none-match': '"1"' } })).status, 200, path)
    t.equal((await ask('GET', path, { token: alice, headers: { 'if-none-match': '*' } })).status, 304, path)
    t.equal((await ask('GET', path, { token: alice, headers: { 'if-match': '"1"' } })).status, 412, path)
  }
  t.equal((await ask('GET', '/orders/stream', { token: alice, headers: { 'if-match': '"1"' } })).status, 412)
  t.equal((await ask('GET', '/orders/stream', { token: alice, headers: { 'if-none-match': '*' } })).status, 304)
})

t.test('a precondition that cannot be read is refused', async t => {
  for (const path of ['/orders', '/products/ale-pint']) {
    for (const header of ['if-match', 'if-none-match']) t.match(await ask('GET', path, { token: alice, headers: { [header]: 'abc' } }), { status: 400, body: { type: /\/invalid-request$/ } }, `${path} with ${header}`)
  }
})

t.test('a write whose route cannot honour a precondition is refused, and nothing is written', async t => {
  const key = randomUUID()
  const id = await placed()
  const requests: Array<[method: 'POST' | 'DELETE', path: string, body: unknown, header: string]> = [
    ['POST', '/orders', { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, 'if-match'],
    ['POST', '/orders', { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, 'if-none-match'],
    ['POST', `/orders/${id}/pay`, undefined, 'if-none-match'],
    ['POST', `/orders/${id}/cancel`, undefined, 'if-none-match'],
    ['POST', '/products/crisps/stock', { delta: 1, reason: 'delivery' }, 'if-match'],
    ['POST', '/products/crisps/stock', { delta: 1, reason: 'delivery' }, 'if-none-match'],
    ['DELETE', '/products/crisps', undefined, 'if-none-match']
  ]
  for (const [method, path, body, header] of requests) {
    const answer = await ask(method, path, { token: staff, ...body !== undefined && { body }, headers: { 'idempotency-key': key, [header]: '*' } })
    t.match(answer, { status: 400, body: { type: /\/invalid-request$/, detail: /Nothing was changed/ } }, `${method} ${path} with ${header}`)
  }
  t.equal((await sql.query('SELECT FROM orders WHERE idempotency_key = $1', [key])).rowCount, 0)
  t.match((await ask('GET', `/orders/${id}`, { token: alice })).body, { status: 'placed' })
  t.match((await ask('GET', '/products/crisps', { token: alice })).body, { withdrawn: false, version: 1 })
  t.equal((await ask('POST', '/orders', { headers: { 'if-match': '*' } })).status, 401, 'a missing token is reported first')
})
