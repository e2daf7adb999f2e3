import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { Client } from 'undici'
import { random } from '../../verify/random.ts'
import { createTestDatabase } from '../postgres.ts'
import { startService, type Service } from '../service.ts'

// When a pod is deleted, two things happen in any sequence: the kubelet sends SIGTERM, and every node takes the pod's endpoint
// out of its rules (kubernetes/kubernetes#67592). New connections come until all nodes have done so.

/** The longest time from the signal to the removal of the endpoint. */
const removalMaxMs = 3_000
const clients = 20
/** The longest pause of a client between two orders. */
const pauseMaxMs = 200

t.test('no request fails while pods end, if each pod serves for longer than its endpoint exists', async t => {
  const { failures, lateConnections, exits, answered, stored } = await endTwoPods(t, { lameDuckMs: removalMaxMs + 500, seed: 5 })
  t.ok(lateConnections > 0, `${lateConnections} connections came to pods that had been told to stop, among ${answered} orders`)
  t.same(failures, {})
  t.same(exits, [[0, null], [0, null]])
  t.equal(stored, answered)
})

t.test('requests fail if pods close at the signal, and no acknowledged order is lost', async t => {
  const { failures, lateConnections, exits, answered, stored } = await endTwoPods(t, { lameDuckMs: 0, seed: 5 })
  t.ok(lateConnections > 0)
  t.ok(Object.keys(failures).length > 0, `of ${answered} orders: ${JSON.stringify(failures)}`)
  t.same(exits, [[0, null], [0, null]])
  // An order whose request was cut may be stored, too.
  t.ok(stored >= answered)
})

/** Starts three pods under load, and deletes two of them, one after the other. */
async function endTwoPods (t: Test, { lameDuckMs, seed }: { lameDuckMs: number, seed: number }) {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 2000000000)")

  const startPod = async (): Promise<Service> => await startService(t, {
    DATABASE_URL: url,
    LOG_LEVEL: 'warn',
    DRAIN_MIN_MS: String(lameDuckMs),
    DRAIN_QUIET_MS: '0',
    DRAIN_MAX_MS: String(lameDuckMs)
  })
  const draw = random(seed)
  const pods = await Promise.all([startPod(), startPod(), startPod()])
  const endpoints = await listenBefore(t, pods.map(portOf), random(seed))
  const load = placeOrders(t, endpoints.url, pods[0].token('alice'))

  const exits = []
  for (const pod of pods.slice(1)) {
    pod.child.kill('SIGTERM')
    endpoints.told(portOf(pod))
    await delay(draw() * removalMaxMs)
    endpoints.remove(portOf(pod))
    exits.push(await pod.exited)
  }
  const { answered, failures } = await load.stop()
  const { rowCount: stored } = await sql.query('SELECT FROM orders')
  return { answered, failures, exits, lateConnections: endpoints.lateConnections(), stored: stored ?? 0 }
}

/**
 * Does what kube-proxy's rules do: it leads each new connection to an endpoint by chance, and leaves it there even if the list
 * changes.
 */
async function listenBefore (t: Test, ports: number[], draw: () => number) {
  const endpoints = new Set(ports)
  const toldToStop = new Set<number>()
  const open = new Set<Socket>()
  let lateConnections = 0
  const server = createServer({ allowHalfOpen: true, noDelay: true }, client => {
    const port = [...endpoints][Math.floor(draw() * endpoints.size)] ?? 0
    if (toldToStop.has(port)) lateConnections++
    const pod = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    for (const [socket, other] of [[client, pod], [pod, client]] as const) {
      open.add(socket)
      socket.pipe(other)
      socket.once('error', () => other.destroy()).once('close', () => open.delete(socket))
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    told: (port: number) => { toldToStop.add(port) },
    remove: (port: number) => { endpoints.delete(port) },
    lateConnections: () => lateConnections
  }
}

/** Each client keeps one connection, and never retries. */
function placeOrders (t: Test, url: string, token: string) {
  const over = new AbortController()
  let answered = 0
  const failures: Record<string, number> = {}
  const all = Array.from({ length: clients }, async () => {
    const client = new Client(url)
    t.teardown(() => client.destroy())
    while (!over.signal.aborted) {
      const outcome = await client.request({
        method: 'POST',
        path: '/orders',
        headers: { authorization: `Bearer ${token}`, 'idempotency-key': randomUUID(), 'content-type': 'application/json' },
        body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
      }).then(async ({ statusCode, body }) => {
        await body.dump()
        return String(statusCode)
      }).catch((error: NodeJS.ErrnoException) => error.code ?? error.message)
      if (outcome === '201') answered++
      else failures[outcome] = (failures[outcome] ?? 0) + 1
      await delay(Math.random() * pauseMaxMs)
    }
  })
  return {
    async stop () {
      over.abort()
      await Promise.all(all)
      return { answered, failures }
    }
  }
}

function portOf ({ url }: Service): number {
  return Number(new URL(url).port)
}
