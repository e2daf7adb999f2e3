import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import websocket from '@fastify/websocket'

const ANSWER_MS = 200

export interface Upstream {
  origin: string
  close (): Promise<void>
}

/** Takes its time over each request, and echoes what it gets by WebSockets. */
export async function startUpstream (): Promise<Upstream> {
  // Of clients that leave, the proxy may leave connections that were never used, and a close would wait for them.
  const app = Fastify({ forceCloseConnections: true })
  await app.register(websocket)
  app.get('/slow', async () => {
    await delay(ANSWER_MS)
    return { answered: 'by the upstream' }
  })
  app.post('/orders', async ({ body }) => {
    await delay(ANSWER_MS)
    return body
  })
  app.get('/echo', { websocket: true }, (socket) => {
    socket.on('message', (data: Buffer, isBinary: boolean) => socket.send(data, { binary: isBinary }))
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  return { origin, close: async () => { await app.close() } }
}
