import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { spareOf, type Load } from './load.ts'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'

/** A peer that does not close is closed, after this many ms. */
const lingerMs = 1_000
const maxConnections = 100
/** What HAProxy reads of an answer, in bytes, with room. */
const lineMax = 200

export interface AgentOptions {
  /** The public app, whose state and load are told. */
  app: FastifyInstance
  config: Pick<Config, 'agent'>
}

/**
 * The port that HAProxy's agent-check asks: one line for each connection, `ready up N%` with the share of its weight that this
 * instance can take, `ready down #why` while it is not ready, as where the database takes no writes, and `drain` from the signal on. Like the ops port it is never closed and answers until the process exits;
 * a process that ends by itself is not kept by it.
 *
 * Each line gives the whole state, as HAProxy keeps what it is not told: a drained server stays so without `ready`. Source:
 * https://docs.haproxy.org/2.6/configuration.html#5.2-agent-check
 *
 * @throws the error of listen()
 */
export async function openAgent ({ app, config: { agent } }: AgentOptions): Promise<Server> {
  async function stateOf (): Promise<string> {
    if (app.drain.state !== 'serving') return 'drain'
    const failed = (await app.health.readiness()).find(check => !check.ok)
    // It may have begun to stop meanwhile.
    if (app.drain.state !== 'serving') return 'drain'
    if (failed !== undefined) return `ready down #${failed.name}: ${failed.reason ?? 'failed'}`.replaceAll(/\s+/g, ' ').slice(0, lineMax)
    return `ready up ${weightOf(app.load.now())}%`
  }

  const server = createServer(socket => {
    const linger = setTimeout(() => socket.destroy(), lingerMs).unref()
    socket.once('close', () => clearTimeout(linger))
    // A balancer that has gone has its answer at the next check.
    socket.on('error', () => {})
    // What it may send is read: closing on it would be a reset, which can overtake the line.
    socket.resume()
    void stateOf().then(line => socket.end(`${line}\n`))
  })
  server.maxConnections = maxConnections
  server.listen({ host: agent.host, port: agent.port }).unref()
  await once(server, 'listening')
  return server
}

/** What the instance can take, in whole percent; at least 1, as 0 would drain. */
export function weightOf (load: Load): number {
  return Math.max(1, Math.round(100 * spareOf(load)))
}
