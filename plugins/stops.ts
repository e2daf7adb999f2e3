import { hostname } from 'node:os'
import fp from 'fastify-plugin'
import { v7 as uuidv7 } from 'uuid'

/**
 * One row for each life of a process: written at its start, completed at its end. What was killed shows as started and never
 * finished.
 *
 * Registered between the database and the drain: so its onClose runs when everything else has ended and the database is still there.
 */
export default fp(async app => {
  const id = uuidv7()
  let started = false

  app.addHook('onReady', async () => {
    await app.prisma.stop.create({ data: { id, instance: hostname(), pid: process.pid } })
    started = true
    app.drain.on('draining', async () => {
      await app.prisma.stop.update({ where: { id }, data: { stoppingAt: new Date() } })
    }, { name: 'write down the stop' })
  })

  app.addHook('onClose', async () => {
    if (!started) return
    const report = app.drain.report()
    try {
      await app.prisma.stop.update({
        where: { id },
        data: { finishedAt: new Date(), reason: report.reason ?? 'close', exitCode: report.exitCode ?? 0, report: JSON.parse(JSON.stringify(report)) }
      })
    } catch (error) {
      // The log line tells the same; a database that has gone must not keep the process.
      app.log.error({ err: error }, 'The report of this stop was not written to the database.')
    }
  })
}, { name: 'stops', fastify: '5.x', dependencies: ['database'] })
