// THE example of a target file: a module whose default export tells the harness how to start a service, how to ask it,
// how to understand it, and where to look for what it has stored. Copy it, change what is marked 1 to 5, and run
//
//   npm run verify -- --target my-service.ts --scenario term --duration 10
//
// The types are those of ../target.ts, which also says what is optional. What a target leaves out is not tried, and the
// report says that it was not checked: here paying and cancelling, lists, streams, stock and events.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Answer, Completion, Operation, OrderAnswered, OrderStored, Request, Run, Target } from '../target.ts'

/** A service on nothing but Node, which keeps its orders in a file. */
const plainNode: Target = {
  name: 'plain-node',

  // 1. How it is started. It must listen on the port that it is given, and end at SIGTERM. It gets no environment but this,
  //    PATH, and in TZ another zone at each start. `directory` is the run's own and empty at first. A service on Postgres has a `postgres` here, is given
  //    `databaseUrl`, and makes its tables in `prepare`: see order-service.ts.
  start: (run, { port }) => ({
    // Not npm and not `sh -c`: they stand between the signal and the service.
    command: [process.execPath, join(import.meta.dirname, 'plain-node/server.js')],
    env: { PORT: String(port), ORDERS_FILE: ordersFile(run), CATALOGUE: JSON.stringify(run.products) }
  }),

  // 2. When traffic may come: this path then answers 2xx.
  readiness: '/healthz',

  request,
  understand,

  // 5. What is stored: everything, and not by asking the service, which would only repeat what it believes. A key that
  //    is stored twice must come twice: the judge is to see it.
  async snapshot (run) {
    const file = ordersFile(run)
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []
    return {
      // What stands after the last end of a line was never acknowledged.
      orders: lines.slice(0, -1).map((line): OrderStored => {
        const { customer, key, order } = JSON.parse(line) as { customer: string, key: string, order: OrderAnswered }
        return { customer, key, ...order }
      })
    }
  }
}

export default plainNode

function ordersFile ({ directory }: Run): string {
  return join(directory, 'orders.jsonl')
}

// 3. The request of each operation; undefined where the service has no such thing. The load decides what is asked and when.
//    A key is one customer's own, and comes again with the same body (a retry), at the same time (a twin), and with
//    another body (a mistake).
function request (operation: Operation): Request | undefined {
  const headers = { 'x-customer': operation.customer }
  switch (operation.kind) {
    case 'place': return {
      method: 'POST',
      path: '/orders',
      headers: { ...headers, 'content-type': 'application/json', 'idempotency-key': operation.key },
      body: JSON.stringify(operation.order)
    }
    case 'read': return { method: 'GET', path: `/orders/${operation.id}`, headers }
    default: return undefined
  }
}

// 4. What a whole answer means. `ok`: it happened, and this is the order. `fail`: it did not, and never will; say so only
//    where that is certain, as the judge holds the service to it. `info`: nobody knows. Answers that were cut and
//    connections that broke never come here: they are `info` by themselves.
function understand (operation: Operation, { status, headers, body }: Answer): Pick<Completion, 'type' | 'problem' | 'order' | 'replayed'> {
  const content = JSON.parse(body) as OrderAnswered & { error?: string }
  if (status < 300) return { type: 'ok', order: content, ...headers['idempotent-replayed'] === 'true' && { replayed: true } }
  // Names that the judge knows as true answers are in ../judge/problems.ts; any other counts as a failed request.
  return { type: status < 500 ? 'fail' : 'info', problem: content.error ?? `http-${status}` }
}
