// "Fastify" of its docs/EXAMPLE.md, with the closePromises of "ExpressJS" and the Kubernetes mode of docs/API.md, which goes
// on serving while it shuts down.
import GracefulServer from '@gquittet/graceful-server'

export default async function (app, { lameDuck, closing, closeResources }) {
  const gracefulServer = GracefulServer(app.server, {
    kubernetes: true,
    readinessEndpoint: '/readyz',
    // Its only time setting: it sleeps for this long, and then ends every connection.
    timeout: Math.max(lameDuck.max, 1_000),
    closePromises: [closeResources]
  })
  gracefulServer.on(GracefulServer.SHUTTING_DOWN, closing)
  return {
    ready: () => gracefulServer.isReady(),
    listening: () => gracefulServer.setReady()
  }
}
