// A shop's program. It is compiled against the client that is generated beside it (api.ts), so that what the document lacks
// is a compile error here.
import { setTimeout as delay } from 'node:timers/promises'
import createClient from 'openapi-fetch'
import type { components, paths } from './api.ts'

type Place = paths['/orders']['post']

const [baseUrl = '', customerToken = '', staffToken = ''] = process.argv.slice(2)
const customer = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${customerToken}` } })
const staff = createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${staffToken}` } })
const seen: Record<string, unknown> = {}

// The catalogue, page by page.
const page = await customer.GET('/products', { params: { query: { limit: 2 } } })
const next: string | null | undefined = page.data?.next
seen.products = [page.data?.products.length, typeof next]

// A product, changed over the version that was read.
const created = await staff.PUT('/products/{sku}', { params: { path: { sku: 'client-made' } }, body: { name: 'Made by a client', unitPrice: 100, currency: 'EUR', stock: 2 } })
const version: number | undefined = created.data?.version
const noVersion = await staff.PUT('/products/{sku}', { params: { path: { sku: 'client-made' } }, body: { name: 'x', unitPrice: 1, currency: 'EUR', stock: 9 } })
const changed = await staff.PUT('/products/{sku}', { params: { path: { sku: 'client-made' }, header: { 'if-match': `"${version}"` } }, body: { name: 'x', unitPrice: 100, currency: 'EUR', stock: 1 } })
seen.product = [created.response.status, noVersion.error?.type, changed.data?.stock]
const delivered = await staff.POST('/products/{sku}/stock', { params: { path: { sku: 'client-made' }, header: { 'idempotency-key': 'delivery-1' } }, body: { delta: 1, reason: 'delivery' } })
seen.delivered = [delivered.data?.stock, delivered.data?.changedBy]

const body = { currency: 'EUR', items: [{ sku: 'client-made', quantity: 1 }] }
// @ts-expect-error: an order takes a key
void (() => customer.POST('/orders', { body }))

// The document describes the events as text.
const ended = new AbortController()
const stream = await customer.GET('/orders/stream', { parseAs: 'stream', signal: ended.signal })
const asText: string | undefined = undefined as paths['/orders/stream']['get']['responses'][200]['content']['text/event-stream'] | undefined
seen.streamed = [stream.response.headers.get('content-type'), asText]

const placed = await customer.POST('/orders', { params: { header: { 'idempotency-key': 'order-1' } }, body })
const total: number | undefined = placed.data?.total
const replayed = await customer.POST('/orders', { params: { header: { 'idempotency-key': 'order-1' } }, body })
// The headers are in the document.
const replayedHeader: keyof Place['responses'][201]['headers'] = 'idempotent-replayed'
seen.placed = [placed.response.status, total, replayed.response.headers.get(replayedHeader), replayed.data?.id === placed.data?.id]

if (stream.data !== null && stream.data !== undefined) {
  let text = ''
  const reader = stream.data.pipeThrough(new TextDecoderStream()).getReader()
  while (!text.includes('event: placed')) {
    const { value, done } = await Promise.race([reader.read(), delay(10_000, { value: undefined, done: true } as const)])
    if (done) break
    text += value
  }
  seen.event = /^event: (\w+)$/m.exec(text)?.[1]
  ended.abort()
}

// Staff find the order among everybody's, and may follow its customer.
const found = await staff.GET('/orders', { params: { query: { customer: 'client', status: 'placed', from: placed.data?.createdAt ?? '', to: '2999-01-01T00:00:00Z', limit: 5 } } })
seen.found = found.data?.orders.map(({ id }) => id === placed.data?.id)
void (() => staff.GET('/orders/stream', { parseAs: 'stream', params: { query: { customer: 'client' } } }))

// The type tells refusals apart, and each type has members of its own.
type Refusal = NonNullable<Awaited<ReturnType<typeof place>>['error']>
function place (quantity: number, sku = 'client-made', key = 'order-2') {
  return customer.POST('/orders', { params: { header: { 'idempotency-key': key } }, body: { currency: 'EUR', items: [{ sku, quantity }] } })
}
function explained (refusal: Refusal | undefined): string {
  switch (refusal?.type) {
    case '/problems/out-of-stock': return `out of ${refusal.sku}`
    case '/problems/unknown-product': return `no ${refusal.sku}`
    case '/problems/invalid-request': return `wrong: ${refusal.errors?.map(({ path }) => path).join() ?? refusal.detail}`
    case '/problems/idempotency-key-reused': return refusal.title satisfies components['schemas']['IdempotencyKeyReusedProblem']['title']
    default: return `other: ${refusal?.type}`
  }
}
seen.refused = [explained((await place(7)).error), explained((await place(1, 'nothing')).error), explained((await place(0)).error), explained((await place(3, 'client-made', 'order-1')).error)]

const paid = await customer.POST('/orders/{id}/pay', { params: { path: { id: placed.data?.id ?? '' } } })
const shipped = await staff.POST('/orders/{id}/deliver', { params: { path: { id: placed.data?.id ?? '' } } })
seen.moved = [paid.data?.status, shipped.error?.type === '/problems/transition-not-allowed' ? shipped.error.orderStatus : undefined]
const read = await customer.GET('/orders/{id}', { params: { path: { id: placed.data?.id ?? '' }, header: { 'if-none-match': '"2"' } } })
seen.notModified = read.response.status

console.log(JSON.stringify(seen))
process.exit()
