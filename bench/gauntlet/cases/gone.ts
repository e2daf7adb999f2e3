import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { answered } from '../ask.ts'
import type { Service } from '../service.ts'
import type { Case } from './case.ts'

/** @param delayMs before each of its answers */
async function withUpstream (delayMs: number, run: (url: string) => Promise<void>): Promise<void> {
  const server = createServer((_request, response) => { setTimeout(() => response.end('late'), delayMs) })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  try {
    await run(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.close()
    server.closeAllConnections()
  }
}

async function leave (service: Service, route: string, after: number): Promise<void> {
  const client = await service.connect()
  client.get(route)
  await sleep(after)
  client.socket.destroy()
}

/** A request that was kept for a client that has gone would hold this stop. */
async function stopsAtOnce (service: Service): Promise<void> {
  await answered(service.ask('/'))
  service.signal()
  await service.exitsClean(2_000)
}

export const goneStream: Case = {
  name: 'gone-stream',
  says: 'A client that leaves before the first byte of a stream, and one that leaves before the upstream of @fastify/reply-from has answered, do not hold a later stop: it exits cleanly within 2 s',
  run: cell => withUpstream(300, async upstream => {
    const service = await cell.start({ upstream })
    await Promise.all([leave(service, '/late-stream?ms=1000', 100), leave(service, '/proxied', 100)])
    // Time for the upstream to answer.
    await sleep(400)
    await stopsAtOnce(service)
  })
}

const routes = ['/async', '/callback', '/return-reply', '/stream', '/late-stream', '/hijack', '/events', '/proxied', '/on-send', '/on-response']
/** How many clients ask for each route. */
const clients = 50
/** ms after which the last client leaves. */
const longest = 30
/** How long the work and the upstream take, ms. */
const work = 10

export const goneMany: Case = {
  name: 'gone-many',
  says: `${routes.length * clients} clients that leave after 0 to ${longest} ms, on ${routes.length} forms of route, do not hold a later stop: it exits cleanly within 2 s`,
  run: cell => withUpstream(work, async upstream => {
    const service = await cell.start({ upstream, quiet: true })
    for (let client = 0; client < clients; client++) {
      await Promise.all(routes.map(route => leave(service, `${route}?ms=${work}`, longest * client / clients)))
    }
    await sleep(500)
    await stopsAtOnce(service)
  })
}
