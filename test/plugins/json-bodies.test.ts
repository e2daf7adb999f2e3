import { randomUUID } from 'node:crypto'
import { brotliCompressSync, gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { request } from 'undici'
import { startApp } from '../app.ts'

const { ask, sql, token, url } = await startApp(t)
const alice = token('alice')
const order = { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }], reference: 'café' }

/** The status and the body of the answer to these bytes. */
async function post (
  path: string,
  bytes: Buffer | string | null,
  headers: Record<string, string>
): Promise<{ status: number, body: { type?: string, status?: unknown, reference?: string }, headers: Record<string, unknown> }> {
  const answer = await request(url + path, { method: 'POST', headers: { authorization: `Bearer ${alice}`, 'idempotency-key': randomUUID(), ...headers }, body: bytes })
  return { status: answer.statusCode, body: await answer.body.json() as { type?: string }, headers: answer.headers }
}

async function isRefused (t: Test, status: number, bytes: Buffer, headers: Record<string, string>, what: string): Promise<void> {
  const before = await count()
  t.match(await post('/orders', bytes, headers), { status, body: { type: '/problems/invalid-request', status } }, what)
  t.equal(await count(), before)
}

async function count (): Promise<number | null> {
  return (await sql.query('SELECT FROM orders')).rowCount
}

t.test('a body with a content coding is refused with 415', async t => {
  const text = JSON.stringify(order)
  await isRefused(t, 415, gzipSync(text), { 'content-type': 'application/json', 'content-encoding': 'gzip' }, 'gzip')
  await isRefused(t, 415, brotliCompressSync(text), { 'content-type': 'application/json', 'content-encoding': 'br' }, 'br')
  await isRefused(t, 415, gzipSync(gzipSync(text)), { 'content-type': 'application/json', 'content-encoding': 'gzip, gzip' }, 'twice')
  await isRefused(t, 415, Buffer.from(text), { 'content-type': 'application/json', 'content-encoding': 'nonsense' }, 'unknown')
  const answer = await post('/orders', gzipSync(text), { 'content-type': 'application/json', 'content-encoding': 'gzip' })
  t.equal(answer.headers['accept-encoding'], 'identity', 'RFC 9110 section 15.5.16')
  t.equal((await post('/orders', text, { 'content-type': 'application/json', 'content-encoding': 'identity' })).status, 201)
})

t.test('a body in another charset than UTF-8 is refused, and not stored as something else', async t => {
  const text = JSON.stringify(order)
  await isRefused(t, 415, Buffer.from(text, 'latin1'), { 'content-type': 'application/json; charset=iso-8859-1' }, 'latin 1')
  await isRefused(t, 415, Buffer.from(text, 'utf16le'), { 'content-type': 'application/json;charset="UTF-16LE"' }, 'UTF-16')
  await isRefused(t, 415, Buffer.from(text), { 'content-type': 'application/json; charset=x-none' }, 'unknown')
  await isRefused(t, 400, Buffer.from(text, 'latin1'), { 'content-type': 'application/json' }, 'invalid UTF-8')
  for (const charset of ['utf-8', 'UTF-8', '"utf-8"', 'utf8']) {
    t.match(await post('/orders', text, { 'content-type': `application/json; charset=${charset}` }), { status: 201, body: { reference: 'café' } }, charset)
  }
  t.match(await post('/orders', `\ufeff${text}`, { 'content-type': 'application/json' }), { status: 201, body: { reference: 'café' } }, 'with a byte order mark')
})

t.test('a route that takes no body serves a client that names a media type and sends none', async t => {
  for (const transition of ['pay', 'cancel']) {
    const { body: { id } } = await ask<{ id: string }>('POST', '/orders', { token: alice, body: order, headers: { 'idempotency-key': randomUUID() } })
    for (const bytes of [null, '']) t.equal((await post(`/orders/${id}/${transition}`, bytes, { 'content-type': 'application/json' })).status, 200, transition)
  }
  t.equal((await post('/orders', null, { 'content-type': 'application/json' })).status, 400, 'a route that takes a body refuses it')
})
