import { once } from 'node:events'
import { createServer } from 'node:net'

/**
 * A free port of 127.0.0.1, from below the range of ephemeral ports: otherwise a client could get the port of a service that
 * is down, and the service could not start again.
 */
export async function freePort (): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000)
    const server = createServer().listen(port, '127.0.0.1')
    try {
      await once(server, 'listening')
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') continue
      throw error
    }
    server.close()
    await once(server, 'close')
    return port
  }
}
