import { signToken } from '../../auth/local-token.ts'
import { random } from '../../verify/random.ts'
import { secret } from '../../proof/order-service.ts'
import { quantile } from '../drain/ratio.ts'
import { shuffled } from '../shuffled.ts'
import type { Contest } from './contest.ts'
import { orderService } from './contestants.ts'
import { bigCustomer } from './fill.ts'

/** The page of a list that begins after this percentage of its orders. */
export interface PageTimes {
  readonly reader: 'staff' | 'customer'
  readonly depthPercent: number
  /** Orders in the whole list. */
  readonly orders: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const depthsPercent = [0, 10, 50, 99]
/** Measured requests for each page, after the unmeasured ones. */
const requests = 300
const unmeasured = 50

/** Measures how long a page of 20 takes, one request at a time, all depths in turns. */
export async function measurePages (contest: Contest, database: string): Promise<PageTimes[]> {
  const pages = [...await pagesOf(contest, database, 'staff'), ...await pagesOf(contest, database, 'customer')]
  const running = await contest.startService(orderService, database, 1)
  try {
    const next = random(1)
    for (let n = 0; n < unmeasured + requests; n++) {
      for (const { query, token, times } of shuffled(pages, next)) {
        const from = performance.now()
        const answer = await fetch(`http://127.0.0.1:${running.port}/orders${query}`, { headers: { authorization: `Bearer ${token}` } })
        const { orders } = await answer.json() as { orders?: unknown[] }
        if (n >= unmeasured) times.push(performance.now() - from)
        if (orders === undefined || orders.length === 0) throw new Error(`GET /orders${query} gave ${answer.status} and no orders: this is no measurement.`)
      }
    }
  } finally {
    await running.stop()
  }
  return pages.map(({ reader, depthPercent, orders, times }) => {
    times.sort((a, b) => a - b)
    return { reader, depthPercent, orders, p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) }
  })
}

async function pagesOf (contest: Contest, database: string, reader: PageTimes['reader']) {
  const staff = reader === 'staff'
  const token = signToken({ secret, sub: bigCustomer, staff })
  const where = staff ? '' : `WHERE customer = '${bigCustomer}'`
  const [row] = await contest.query<{ count: string }>(`SELECT count(*) FROM orders ${where}`, database)
  const orders = Number(row?.count)
  return await Promise.all(depthsPercent.map(async depthPercent => {
    const [before] = await contest.query<{ id: string }>(`SELECT id FROM orders ${where} ORDER BY id DESC OFFSET $1 LIMIT 1`, database, [Math.floor(orders * depthPercent / 100)])
    if (before === undefined) throw new Error('There are no orders to list.')
    return { reader, depthPercent, orders, token, times: [] as number[], query: depthPercent === 0 ? '' : `?cursor=${cursorOf(before.id)}` }
  }))
}

/** A cursor as the service makes it: the bytes of the last order's id. */
function cursorOf (id: string): string {
  return Buffer.from(id.replaceAll('-', ''), 'hex').toString('base64url')
}
