import { setTimeout as delay } from 'node:timers/promises'
import fp from 'fastify-plugin'
import { wordsOf } from '../commit/failure.ts'
import { whyNotWritable } from '../prisma/writable.ts'

export interface HealthCheck {
  name: string
  ok: boolean
  /** Why not, as a clause. For operators. */
  reason?: string
}

declare module 'fastify' {
  interface FastifyInstance {
    health: {
      /** Whether traffic should come here: all checks must be ok. */
      readiness (): Promise<HealthCheck[]>
      /** Keeps the service ready during a stop until the work has ended, or until it stops accepting. */
      readyUntil (work: Promise<unknown>): void
    }
  }
}

export interface HealthOptions {
  /** How long the database's answer counts, in ms. */
  maxAgeMs?: number
  /** How long the database may take to answer, in ms. */
  timeoutMs?: number
  /** After so many failed checks in a row the database counts as gone: one slow answer must not take the service out. */
  fall?: number
}

/** Readiness: started, serving, and with a database that takes writes. Liveness needs no checks. */
export default fp<HealthOptions>(async (app, { maxAgeMs = 1_000, timeoutMs = 1_000, fall = 3 }) => {
  let failures = fall
  let reason: string | undefined
  let isLogged = false
  let checkedAt = -Infinity
  let checking: Promise<void> | undefined
  const holding = new Set<Promise<unknown>>()

  async function askDatabase (): Promise<void> {
    const answer = await Promise.race([
      whyNotWritable(sql => app.prisma.$queryRawUnsafe(sql))
        .then(why => ({ why, failed: 0 }), (error: unknown) => ({ why: wordsOf(error), failed: failures + 1 })),
      delay(timeoutMs, { why: `it did not answer within ${timeoutMs} ms`, failed: failures + 1 }, { ref: false })
    ])
    // A database that says that it takes no writes is believed at once.
    const isDenied = answer.failed === 0 && answer.why !== undefined
    failures = isDenied ? fall : answer.failed
    reason = answer.why
    checkedAt = performance.now()
    if (isDenied) app.database.renew()
    if (!isLogged && failures >= fall) app.log.warn({ reason }, 'The database cannot be written. The service is not ready until it can.')
    if (isLogged && failures < fall) app.log.info('The database can be written again.')
    isLogged = failures >= fall
  }

  function isStaying (): boolean {
    const { state } = app.drain
    return state === 'starting' || state === 'serving' || (state === 'draining' && holding.size > 0)
  }

  app.decorate('health', {
    async readiness () {
      if (app.drain.state === 'serving' && performance.now() - checkedAt > maxAgeMs) {
        checking ??= askDatabase().finally(() => { checking = undefined })
        // Only the first check is awaited. Later the last answer counts while the next check runs.
        if (checkedAt === -Infinity) await checking
      }
      // If nobody asked before the stop, nothing speaks against the database.
      const canWrite = failures < fall || checkedAt === -Infinity
      return [
        { name: 'started', ok: app.drain.state !== 'starting' },
        { name: 'drain', ok: isStaying() },
        { name: 'database', ok: canWrite, ...!canWrite && reason !== undefined && { reason } }
      ]
    },
    readyUntil (work: Promise<unknown>) {
      holding.add(work)
      const release = (): void => { holding.delete(work) }
      work.then(release, release)
    }
  })
  app.addHook('onClose', async () => {
    await checking
  })
}, { name: 'health', fastify: '5.x', dependencies: ['database', 'fastify-drain'] })
