import { setTimeout as delay } from 'node:timers/promises'
import fp from 'fastify-plugin'

export interface HealthCheck {
  name: string
  ok: boolean
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
  /** Failures in a row before the database counts as gone: one slow answer must not take the service out. */
  fall?: number
}

/** Readiness: started, not stopping, and with a database that answers. Liveness is not here: it asks nothing of anybody. */
export default fp<HealthOptions>(async (app, { maxAgeMs = 1_000, timeoutMs = 1_000, fall = 3 }) => {
  let failures = fall
  let checkedAt = -Infinity
  let checking: Promise<void> | undefined
  const holding = new Set<Promise<unknown>>()

  async function askDatabase (): Promise<void> {
    const answered = await Promise.race([
      app.prisma.$queryRaw`SELECT 1`.then(() => true, () => false),
      delay(timeoutMs, false, { ref: false })
    ])
    failures = answered ? 0 : failures + 1
    checkedAt = performance.now()
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
      return [
        { name: 'started', ok: app.drain.state !== 'starting' },
        { name: 'drain', ok: isStaying() },
        // In a stop before which nobody asked, nothing is known against it.
        { name: 'database', ok: failures < fall || checkedAt === -Infinity }
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
