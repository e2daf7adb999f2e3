// "How to set Terminus up with Kubernetes" of its README: beforeShutdown waits as long as the probes take, and useExit0.
import { setTimeout as sleep } from 'node:timers/promises'
import { createTerminus } from '@godaddy/terminus'

export default async function (app, { deadline, lameDuck, closing }) {
  let shuttingDown = false
  createTerminus(app.server, {
    healthChecks: { '/readyz': async () => {} },
    signals: ['SIGTERM', 'SIGINT'],
    timeout: deadline,
    useExit0: true,
    beforeShutdown: async () => {
      shuttingDown = true
      await sleep(lameDuck.max)
      closing()
    },
    onSignal: () => app.close(),
    logger: (message, err) => app.log.error({ err }, message)
  })
  return { ready: () => !shuttingDown }
}
