import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { spareOf, type Load } from './load.ts'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'

/** How long a peer may leave its connection open, in ms. */
const lingerMs = 1_000
const maxConnections = 100
/** Well below what HAProxy reads of an answer, in bytes. */
const lineMax = 200

export interface AgentOptions {
  /** The public app: its state and load are the answer. */
  app: FastifyInstance
  config: Pick<Config, 'agent'>
}

/**
 * The port for HAProxy's agent-check. Each connection gets one line: `ready up N%` with the share of its weight that this
 * instance can take; `ready down #why` while it is not ready; `drain` from the signal on. Like the ops port it answers until
 * the process exits. It does not keep a process alive.
 *
 * Each line gives the whole state, because HAProxy keeps what a line leaves out: a drained server stays drained until it reads
 * `ready`. Source: https://docs.haproxy.org/2.6/configuration.html#5.2-agent-check
 *
 * @throws the error of listen()
 */
export async function openAgent ({ app, config: { agent } }: AgentOptions): Promise<Server> {
  async function stateOf (): Promise<string> {
    if (app.drain.state !== 'serving') return 'drain'
    const failed = (await app.health.readiness()).find(check => !check.ok)
    // A stop may have begun meanwhile.
    if (app.drain.state !== 'serving') return 'drain'
    if (failed !== undefined) return `ready down #${failed.name}: ${failed.reason ?? 'failed'}`.replaceAll(/\s+/g, ' ').slice(0, lineMax)
    return `ready up ${weightOf(app.load.now())}%`
  }

  const server = createServer(socket => {
    const linger = setTimeout(() => socket.destroy(), lingerMs).unref()
    socket.once('close', () => clearTimeout(linger))
    // A balancer that hung up asks again at its next check.
    socket.on('error', () => {})
    // Reads whatever the balancer sends: unread data turns the close into a reset, which can overtake the line.
    socket.resume()
    void stateOf().then(line => socket.end(`${line}\n`))
  })
  server.maxConnections = maxConnections
  server.listen({ host: agent.host, port: agent.port }).unref()
  await once(server, 'listening')
  return server
}

/** What the instance can take, in whole percent; at least 1, because 0 would drain it. */
export function weightOf (load: Load): number {
  return Math.max(1, Math.round(100 * spareOf(load)))
}
