// "stop()" of its README; by itself it neither handles signals nor ends the process.
import stoppable from 'stoppable'

export default async function (app, { deadline, closing }) {
  stoppable(app.server, deadline)
  async function stop () {
    closing()
    await new Promise((resolve) => app.server.stop(resolve))
    await app.close()
  }
  let stopped
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      stopped ??= stop().then(() => process.exit(0), () => process.exit(1))
    })
  }
  return {}
}
