// THE example of a target file: a module whose default export tells the harness how to start a service, how to send it
// requests, how to read its answers, and where its stored data is. Copy it, change the parts marked 1 to 5, and run
//
//   npx last-orders-verify --target target.mts --scenario term --duration 10
//
// The types of last-orders-verify/target also say what is optional. What a target leaves out is not tried, and the report says
// that it was not checked: here these are paying and cancelling, lists, streams, stock and events.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Answer, Completion, Operation, OrderAnswered, OrderStored, Request, Run, Target } from 'last-orders-verify/target'

/** A service on Node alone, which keeps its orders in a file. */
const plainNode: Target = {
  name: 'plain-node',

  // 1. How to start it. It must listen on the given port, and end at SIGTERM. Its environment is only this, PATH, and TZ with
  //    another zone at each start. `directory` is the run's own and empty at first. A service on Postgres has a `postgres` here,
  //    gets `databaseUrl`, and makes its tables in `prepare`: see proof/order-service.ts in the repository.
  start: (run, { port }) => ({
    // Not npm and not `sh -c`: they would stand between the signal and the service.
    command: [process.execPath, join(import.meta.dirname, 'server.mjs')],
    env: { PORT: String(port), ORDERS_FILE: ordersFile(run), CATALOGUE: JSON.stringify(run.products) }
  }),

  // 2. When it may get traffic: this path then answers 2xx.
  readiness: '/healthz',

  request,
  understand,

  // 5. What is stored: everything, and not by requests to the service, which would only repeat what it believes. A key that
  //    is stored twice must appear twice, so that the judge sees it.
  async snapshot (run) {
    const file = ordersFile(run)
    const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []
    return {
      // Text after the last end of a line was never acknowledged.
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

// 3. The request of each operation; undefined if the service does not have it. The load decides what is sent and when. Each
//    customer has their own keys. A key is sent again with the same body (a retry), at the same time (a twin), and with another
//    body (a mistake).
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

// 4. What a whole answer means. `ok`: it happened, and this is the order. `fail`: it did not, and never will; use it only if
//    that is certain, because the judge holds the service to it. `info`: unknown. Cut answers and broken connections never
//    come here: they are `info` by themselves.
function understand (operation: Operation, { status, headers, body }: Answer): Pick<Completion, 'type' | 'problem' | 'order' | 'replayed'> {
  const content = JSON.parse(body) as OrderAnswered & { error?: string }
  if (status < 300) return { type: 'ok', order: content, ...headers['idempotent-replayed'] === 'true' && { replayed: true } }
  // verify/judge/problems.ts has the names of refusals that blame the request; any other counts as a failed request.
  return { type: status < 500 ? 'fail' : 'info', problem: content.error ?? `http-${status}` }
}
