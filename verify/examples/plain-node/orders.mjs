import { randomUUID } from 'node:crypto'
import { json } from 'node:stream/consumers'

/**
 * Orders over HTTP, on Node alone. An order is answered when `write` resolves; this service and the naive one differ only in what
 * that promises.
 *
 * @param {object} options
 * @param {Array<{ sku: string, unitPrice: number }>} options.catalogue
 * @param {Array<object>} options.entries the entries that earlier processes wrote
 * @param {(entry: object) => Promise<void>} options.write
 * @param {() => boolean} options.isStopping
 * @returns {import('node:http').RequestListener}
 */
export function ordersApi ({ catalogue, entries, write, isStopping }) {
  const prices = new Map(catalogue.map(({ sku, unitPrice }) => [sku, unitPrice]))
  const byKey = new Map()
  const byId = new Map()
  for (const entry of entries) know(entry, Promise.resolve())

  async function place (request, response) {
    const customer = request.headers['x-customer']
    const key = request.headers['idempotency-key']
    const body = await json(request)
    const asked = JSON.stringify(body)
    const known = byKey.get(JSON.stringify([customer, key]))
    if (known !== undefined) {
      // A retry, too, is answered only when the order is written.
      await known.written
      if (known.asked === asked) answer(response, 201, known.order, { 'idempotent-replayed': 'true' })
      else answer(response, 422, { error: 'idempotency-key-reused' })
      return
    }

    const items = body.items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: prices.get(sku) }))
    if (items.some(({ unitPrice }) => unitPrice === undefined)) {
      answer(response, 422, { error: 'unknown-product' })
      return
    }
    const { currency, reference = null } = body
    const total = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
    const order = { id: randomUUID(), status: 'placed', version: 1, currency, items, total, reference }
    const entry = { customer, key, asked, order }
    const written = write(entry)
    // Known from here on, because a twin that arrives during the write must find it.
    know(entry, written)
    await written
    answer(response, 201, order)
  }

  async function show (request, response, id) {
    const known = byId.get(id)
    await known?.written
    if (known?.customer === request.headers['x-customer']) answer(response, 200, known.order)
    else answer(response, 404, { error: 'not-found' })
  }

  function know (entry, written) {
    const known = { ...entry, written }
    byKey.set(JSON.stringify([entry.customer, entry.key]), known)
    byId.set(entry.order.id, known)
  }

  function answer (response, status, content, headers = {}) {
    // Otherwise a keep-alive client would keep the process running.
    if (isStopping()) response.setHeader('connection', 'close')
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(content))
  }

  return async function listener (request, response) {
    const { method, url } = request
    try {
      if (url === '/healthz') answer(response, isStopping() ? 503 : 200, {})
      else if (method === 'POST' && url === '/orders') await place(request, response)
      else if (method === 'GET' && url.startsWith('/orders/')) await show(request, response, url.slice('/orders/'.length))
      else answer(response, 404, { error: 'not-found' })
    } catch (error) {
      // A client that left while sending its body is no fault of the service.
      if (request.readableAborted) return
      console.error(error)
      answer(response, 500, { error: 'outcome-unknown' })
    }
  }
}
