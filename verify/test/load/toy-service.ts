import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import type { Test } from 'tap'
import type { OrderAnswered, OrderAsked, Operation, Product, Target } from '../../target.ts'

export const products: readonly Product[] = [
  { sku: 'hot', name: 'Hot', unitPrice: 100, currency: 'EUR', stock: 1_000_000 },
  { sku: 'plain', name: 'Plain', unitPrice: 250, currency: 'EUR', stock: 1_000_000 },
  { sku: 'plain too', name: 'Plain too', unitPrice: 5, currency: 'EUR', stock: 1_000_000 },
  { sku: 'other', name: 'Other', unitPrice: 70, currency: 'JPY', stock: 1_000_000 },
  { sku: 'scarce', name: 'Scarce', unitPrice: 900, currency: 'EUR', stock: 3 }
]

/** Puts the operation into the body, so that a test can choose the answer. */
const target: Pick<Target, 'name' | 'request' | 'understand' | 'stream'> = {
  name: 'toy',
  request: operation => ({ method: 'POST', path: `/${operation.kind}`, headers: { 'content-type': 'application/json' }, body: JSON.stringify(operation) }),
  understand (operation, { status, body }) {
    if (status >= 500) return { type: status === 503 ? 'fail' : 'info' }
    if (status >= 400) return { type: 'fail', problem: body }
    const content = JSON.parse(body)
    return operation.kind === 'list' ? { type: 'ok', ...content } : { type: 'ok', order: content }
  },
  stream: {
    request: customer => ({ method: 'GET', path: `/stream/${customer}`, headers: {} }),
    understand: data => JSON.parse(data)
  }
}

export default target

export interface Server {
  readonly url: string
  close: () => void
}

export async function listen (t: Test, listener: RequestListener): Promise<Server> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = (): void => {
    server.close()
    server.closeAllConnections()
  }
  t.teardown(close)
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close }
}

export async function callIn (request: IncomingMessage): Promise<Operation> {
  return await json(request) as Operation
}

export function answer (response: ServerResponse, status: number, content: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content))
}

/** The answer of a correct service. */
export function orderOf (key: string, { currency, items, reference = null }: Omit<OrderAsked, 'reference'> & { readonly reference?: string | null }): OrderAnswered {
  return { id: `id-of-${key}`, status: 'placed', version: 1, currency, items: items.map(item => ({ ...item, unitPrice: 1 })), total: 1, reference }
}
