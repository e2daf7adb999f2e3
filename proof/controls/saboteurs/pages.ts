import type { Answer, Asked, Order, Saboteur } from './saboteur.ts'

/** Saboteurs that make pages of orders show too little, too much, or something untrue. */
export const pages = {
  // The last but one, as if the cursor of the next page came from another order than the page's last.
  'page-skips': changing(orders => orders.toSpliced(-2, 1)),
  // The newest order may have been under way when the page was requested.
  'page-without-newest': { ...changing((orders, isFirst) => isFirst ? orders.slice(1) : undefined), limit: 5 },
  'page-twice': changing(orders => [...orders.slice(0, -1), ...orders.slice(0, 1)]),
  'page-invents': changing(orders => orders.map((order, place) => place === 1 ? { ...order, id: crypto.randomUUID() } : order)),
  'page-status': changing(orders => orders.map((order, place) => place === 1 ? { ...order, status: 'shipped', version: order.version + 2 } : order)),
  'page-total': changing(orders => orders.map((order, place) => place === 1 ? { ...order, total: order.total + 1 } : order)),
  'page-ends-early': changing(orders => orders.slice(0, -1), { next: null })
} as const satisfies Record<string, Saboteur>

interface Page {
  readonly orders: readonly Order[]
  readonly next: string | null
}

function changing (change: (orders: readonly Order[], isFirst: boolean) => readonly Order[] | undefined, also: Partial<Page> = {}): Saboteur {
  return {
    answered (asked, answer) {
      if (!isPage(asked, answer)) return undefined
      const page = contentOf(answer)
      if (page.orders.length < 2) return undefined
      const orders = change(page.orders, !asked.query.has('cursor'))
      return orders && { ...answer, body: JSON.stringify({ ...page, orders, ...also }) }
    }
  }
}

function isPage ({ method, path }: Asked, { status }: Answer): boolean {
  return method === 'GET' && path === '/orders' && status === 200
}

function contentOf ({ body }: Answer): Page {
  return JSON.parse(body) as Page
}
