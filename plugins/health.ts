import { setTimeout as delay } from 'node:timers/promises'
import fp from 'fastify-plugin'
import { wordsOf } from '../orders/failure.ts'
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
      /** Whether traffic should come here, check by check: all must be ok. */
      readiness (): Promise<HealthCheck[]>
      /** Holds readiness in a stop until the work has ended, or the service no longer accepts. */
      readyUntil (work: Promise<unknown>): void
    }
  }
}

export interface HealthOptions {
  /** How long an answer of the database counts, in ms. */
  maxAgeMs?: number
  /** How long the database may take to answer, in ms. */
  timeoutMs?: number
  /** Questions in a row without an answer before the database counts as gone: one slow answer must not take the service out. */
  fall?: number
}

/** Readiness: started, not stopping, and with a database that can be written. Liveness is not here: it asks nothing of anybody. */
export default fp<HealthOptions>(async (app, { maxAgeMs = 1_000, timeoutMs = 1_000, fall = 3 }) => {
  let failures = fall
  let reason: string | undefined
  let isTold = false
  let checkedAt = -Infinity
  let checking: Promise<void> | undefined
  const holding = new Set<Promise<unknown>>()

  async function askDatabase (): Promise<void> {
    const answer = await Promise.race([
      whyNotWritable(sql => app.prisma.$queryRawUnsafe(sql)).then(why => ({ why, failed: 0 }), (error: unknown) => ({ why: wordsOf(error), failed: failures + 1 })),
      delay(timeoutMs, { why: `it did not answer within ${timeoutMs} ms`, failed: failures + 1 }, { ref: false })
    ])
    // One that says itself that it takes no writes is believed at once.
    const isDenied = answer.failed === 0 && answer.why !== undefined
    failures = isDenied ? fall : answer.failed
    reason = answer.why
    checkedAt = performance.now()
    if (isDenied) app.database.renew()
    if (!isTold && failures >= fall) app.log.warn({ reason }, 'The database cannot be written. The service is not ready until it can.')
    if (isTold && failures < fall) app.log.info('The database can be written again.')
    isTold = failures >= fall
  }

  function isStaying (): boolean {
    const { state } = app.drain
    return state === 'starting' || state === 'serving' || (state === 'draining' && holding.size > 0)
  }

  app.decorate('health', {
    async readiness () {
      if (app.drain.state === 'serving' && performance.now() - checkedAt > maxAgeMs) {
        checking ??= askDatabase().finally(() => { checking = undefined })
        // Only the first answer is waited for; then the last one is given while the next is fetched.
        if (checkedAt === -Infinity) await checking
      }
      // In a stop before which nobody asked, nothing is known against it.
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
