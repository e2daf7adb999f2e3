import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { performance } from 'node:perf_hooks'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config.ts'

/** The loop is measured over between one and two of these, in ms. */
const windowMs = 500
/** A peer that does not close is closed, after this many ms. */
const lingerMs = 1_000
const maxConnections = 100
/** What HAProxy reads of an answer, in bytes, with room. */
const lineMax = 200

export interface AgentOptions {
  /** The public app, whose state and load are told. */
  app: FastifyInstance
  config: Pick<Config, 'agent' | 'database' | 'intake'>
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
export async function openAgent ({ app, config: { agent, database, intake } }: AgentOptions): Promise<Server> {
  const loop = watchLoop()

  async function stateOf (): Promise<string> {
    if (app.drain.state !== 'serving') return 'drain'
    const failed = (await app.health.readiness()).find(check => !check.ok)
    // It may have begun to stop meanwhile.
    if (app.drain.state !== 'serving') return 'drain'
    if (failed !== undefined) return `ready down #${failed.name}: ${failed.reason ?? 'failed'}`.replaceAll(/\s+/g, ' ').slice(0, lineMax)
    return `ready up ${weightOf({
      loop: loop.utilization(),
      pool: app.database.pool.waiting / database.pool,
      intake: app.orders.intake.queued / (intake.batchMax * intake.inFlight)
    })}%`
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
  server.once('close', () => loop.stop())
  server.listen({ host: agent.host, port: agent.port }).unref()
  await once(server, 'listening')
  return server
}

export interface Load {
  /** The share of the time that the event loop is busy, 0 to 1. */
  loop: number
  /** Queries that wait for a connection, for each connection of the pool. */
  pool: number
  /** Orders that wait for a batch, for each that fits into the batches under way at once. */
  intake: number
}

/**
 * 100 × (1 − loop ÷ 2) ÷ (1 + pool) ÷ (1 + intake), in whole percent, at least 1, as 0 would drain.
 *
 * A busy loop takes half at most. Instances that were weighted by all of their idle time would hand a load above one half to
 * and fro; with half of it they settle. What waits has no such bound: as much as is served at once takes half.
 */
export function weightOf ({ loop, pool, intake }: Load): number {
  return Math.max(1, Math.round(100 * (1 - loop / 2) / (1 + pool) / (1 + intake)))
}

/** The utilization of the loop, from the one before the last mark until now. */
function watchLoop (): { utilization: () => number, stop: () => void } {
  let last = performance.eventLoopUtilization()
  let beforeLast = last
  const timer = setInterval(() => {
    beforeLast = last
    last = performance.eventLoopUtilization()
  }, windowMs).unref()
  return {
    utilization: () => performance.eventLoopUtilization(beforeLast).utilization,
    stop: () => clearInterval(timer)
  }
}
