import { setTimeout as delay } from 'node:timers/promises'
import Fastify from 'fastify'
import websocket from '@fastify/websocket'

const answerMs = 200

export interface Upstream {
  origin: string
  close (): Promise<void>
}

/** Answers requests slowly, and echoes messages of WebSockets. */
export async function startUpstream (): Promise<Upstream> {
  // The proxy may leave unused connections of clients that have left, and a close would wait for them.
  const app = Fastify({ forceCloseConnections: true })
  await app.register(websocket)
  app.get('/slow', async () => {
    await delay(answerMs)
    return { answered: 'by the upstream' }
  })
  app.post('/orders', async ({ body }) => {
    await delay(answerMs)
    return body
  })
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data: Buffer, isBinary: boolean) => socket.send(data, { binary: isBinary }))
  })
  const origin = await app.listen({ port: 0, host: '127.0.0.1' })
  return { origin, close: async () => { await app.close() } }
}
