import { hostname } from 'node:os'
import fp from 'fastify-plugin'
import type { Prisma } from '#prisma'
import { uuidv7 } from '../orders/uuidv7.ts'

/** How far back the metric looks, in ms. */
const recentMs = 60 * 60 * 1_000

/** `unfinished`: past its deadline and still without an end, as when it was killed in the middle. */
export type StopOutcome = 'clean' | 'abandoned' | 'failed' | 'unfinished'

declare module 'fastify' {
  interface FastifyInstance {
    stops: {
      /** The stops of the last hour, of all instances on this database. */
      recent (): Promise<Record<StopOutcome, number>>
    }
  }
}

/**
 * One row for each life of a process: written at its start, completed at its end. What was killed shows as started and never
 * finished.
 *
 * Registered between the database and the drain: so its onClose runs when everything else has ended and the database is still there.
 */
export default fp<{ deadlineMs: number }>(async (app, { deadlineMs }) => {
  const id = uuidv7(Date.now())
  const instance = hostname()
  let startedAt: Date | undefined

  /** Anew where retention deleted it: this process has lived longer than a stop is kept. */
  async function write (data: { stoppingAt?: Date, finishedAt?: Date, reason?: string, exitCode?: number, report?: Prisma.InputJsonValue }): Promise<void> {
    await app.prisma.stop.upsert({ where: { id }, update: data, create: { id, instance, pid: process.pid, ...startedAt !== undefined && { startedAt }, ...data }, select: { id: true } })
  }

  app.decorate('stops', {
    async recent () {
      const since = new Date(Date.now() - recentMs)
      const stops = await app.prisma.stop.findMany({
        where: { OR: [{ finishedAt: { gt: since } }, { finishedAt: null, stoppingAt: { gt: since } }] },
        select: { exitCode: true, stoppingAt: true, finishedAt: true }
      })
      const counts = { clean: 0, abandoned: 0, failed: 0, unfinished: 0 }
      for (const { exitCode, stoppingAt, finishedAt } of stops) {
        if (finishedAt === null) {
          // Until its deadline it may be under way.
          if (stoppingAt !== null && Date.now() - stoppingAt.getTime() > deadlineMs) counts.unfinished++
        } else {
          counts[exitCode === 0 ? 'clean' : exitCode === 20 ? 'abandoned' : 'failed']++
        }
      }
      return counts
    }
  })

  app.addHook('onReady', async () => {
    ({ startedAt } = await app.prisma.stop.create({ data: { id, instance, pid: process.pid }, select: { startedAt: true } }))
    app.drain.on('draining', async () => {
      try {
        await write({ stoppingAt: new Date() })
      } catch (error) {
        // It is no failure of the stop: the log line tells the same.
        app.log.error({ err: error }, 'The beginning of this stop was not written to the database.')
      }
    }, { name: 'write down the stop' })
  })

  app.addHook('onClose', async () => {
    if (startedAt === undefined) return
    const report = app.drain.report()
    try {
      await write({ finishedAt: new Date(), reason: report.reason ?? 'close', exitCode: report.exitCode ?? 0, report: JSON.parse(JSON.stringify(report)) })
    } catch (error) {
      // The log line tells the same; a database that has gone must not keep the process.
      app.log.error({ err: error }, 'The report of this stop was not written to the database.')
    }
  })
}, { name: 'stops', fastify: '5.x', dependencies: ['database'] })
