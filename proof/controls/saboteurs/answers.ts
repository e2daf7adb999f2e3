import { Server, type IncomingMessage, type ServerResponse } from 'node:http'
import type { Answer, Asked, Order, Saboteur } from './saboteur.ts'
import { wrap } from './wrap.ts'

/** ms after which a client gets the answer that its order was not started. */
const longMs = 150

/** Saboteurs that make answers untrue, or send requests that nobody made. */
export const answers = {
  'read-status': changing(isRead, order => ({ ...order, status: 'shipped', version: order.version + 2 })),
  'read-total': changing(isRead, order => ({ ...order, total: order.total + 1 })),
  'read-stale': {
    answered: (asked, answer) => isRead(asked) && contentOf(answer).version > 1 ? withOrder(answer, order => ({ ...order, status: 'placed', version: 1 })) : undefined
  },
  'wrong-etag': {
    answered: (asked, answer) => isPlaced(asked, answer) ? { ...answer, headers: { ...answer.headers, etag: '"7"' } } : undefined
  },
  'wrong-location': {
    answered: (asked, answer) => isPlaced(asked, answer) ? { ...answer, headers: { ...answer.headers, location: '/orders/0' } } : undefined
  },
  'wrong-customer': changing(isPlaced, order => ({ ...order, customer: 'somebody-else' })),
  'items-reversed': {
    answered: (asked, answer) => isPlaced(asked, answer) && contentOf(answer).items.length > 1
      ? withOrder(answer, order => ({ ...order, items: order.items.toReversed() }))
      : undefined
  },
  'time-of-replay': changing(isReplay, order => ({ ...order, createdAt: new Date().toISOString() })),
  'price-of-today': changing(isReplay, order => ({ ...order, items: order.items.map(item => ({ ...item, unitPrice: item.unitPrice + 1 })) })),
  'replay-moved-on': {
    answered: (asked, answer, { orders }) => {
      const now = isReplay(asked, answer) ? orders.get(contentOf(answer).id) : undefined
      return now !== undefined && now.version > 1 ? withOrder(answer, () => now) : undefined
    }
  },
  'replayed-always': {
    answered: (asked, answer) => isPlaced(asked, answer) && !isReplay(asked, answer) ? { ...answer, headers: { ...answer.headers, 'idempotent-replayed': 'true' } } : undefined
  },
  'false-out-of-stock': { asked: asked => isPlacing(asked) ? problem(409, 'out-of-stock') : undefined },
  'stored-not-started': { answered: (asked, answer) => isPlaced(asked, answer) && !isReplay(asked, answer) ? problem(503, 'not-started') : undefined },
  // Some have been sent before, and are known to have happened.
  'moved-not-started': { answered: (asked, answer) => isMove(asked, answer) ? problem(503, 'not-started') : undefined, limit: Infinity },
  'not-started-while-begun': {
    install ({ did }) {
      wrap(Server.prototype, 'emit', (emit, args) => {
        const [event, { method, url } = {}, response] = args as [string, IncomingMessage | undefined, ServerResponse]
        if (event === 'request' && method === 'POST' && url === '/orders') {
          const timer = setTimeout(() => {
            if (response.headersSent) return
            did('')
            const { status, headers, body } = problem(503, 'not-started')
            response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body)
            // The later answer of the service is dropped.
            Object.assign(response, { writeHead: () => response, write: () => true, end: () => response })
          }, longMs)
          response.once('close', () => clearTimeout(timer))
        }
        return emit(args)
      })
    }
  },
  'pay-does-nothing': payingNothing(),
  'not-allowed-says-200': {
    answered: (asked, answer, { orders }) => {
      const [, id = '', verb] = moving.exec(asked.path) ?? []
      const order = orders.get(id)
      return answer.status === 409 && order !== undefined ? whole(200, { ...order, status: verb === 'cancel' ? 'cancelled' : 'paid', version: order.version + 1 }) : undefined
    },
    // Most such orders move on for real later, which hides some.
    limit: 10
  },
  'if-match-ignored': {
    asked: asked => { delete asked.headers['if-match'] },
    limit: Infinity
  },
  'read-of-anybody': {
    answered: (asked, answer, { orders }) => {
      const order = isRead(asked) && answer.status === 404 ? orders.get(asked.path.split('/')[2] ?? '') : undefined
      return order && whole(200, order)
    }
  }
} as const satisfies Record<string, Saboteur>

const moving = /^\/orders\/([^/]+)\/(pay|ship|deliver|cancel)$/

/** Leaves three orders unpaid, however often they are paid: a later payment that is made would hide that the first was not. */
function payingNothing (): Saboteur {
  const unpaid = new Set<string>()
  return {
    asked: (asked, { orders }) => {
      const [, id = '', verb] = moving.exec(asked.path) ?? []
      const order = verb === 'pay' ? orders.get(id) : undefined
      if (order?.status !== 'placed' || (unpaid.size === 3 && !unpaid.has(id))) return
      unpaid.add(id)
      return whole(200, { ...order, status: 'paid', version: order.version + 1 })
    },
    limit: Infinity
  }
}

function isPlacing ({ method, path }: Asked): boolean {
  return method === 'POST' && path === '/orders'
}

function isPlaced (asked: Asked, { status }: Answer): boolean {
  return isPlacing(asked) && status === 201
}

function isReplay (asked: Asked, answer: Answer): boolean {
  return isPlaced(asked, answer) && answer.headers['idempotent-replayed'] === 'true'
}

function isRead ({ method, path }: Asked, answer: Answer = { status: 200, headers: {}, body: '' }): boolean {
  return method === 'GET' && /^\/orders\/[0-9a-f-]{36}$/.test(path) && (answer.status === 200 || answer.status === 404)
}

function isMove ({ method, path }: Asked, { status }: Answer): boolean {
  return method === 'POST' && moving.test(path) && status === 200
}

function contentOf ({ body }: Answer): Order {
  return JSON.parse(body) as Order
}

function changing (is: (asked: Asked, answer: Answer) => boolean, change: (order: Order) => Order): Saboteur {
  return { answered: (asked, answer) => answer.status < 300 && is(asked, answer) ? withOrder(answer, change) : undefined }
}

function withOrder (answer: Answer, change: (order: Order) => Order): Answer {
  return { ...answer, body: JSON.stringify(change(contentOf(answer))) }
}

function whole (status: number, order: Order): Answer {
  return { status, headers: { 'content-type': 'application/json; charset=utf-8', etag: `"${order.version}"` }, body: JSON.stringify(order) }
}

function problem (status: number, name: string): Answer {
  return { status, headers: { 'content-type': 'application/problem+json' }, body: JSON.stringify({ type: `about:blank/${name}`, title: name, status }) }
}
