// "Advanced Options Example" of its README: preShutdown while sockets are untouched, onShutdown for the cleanup.
import gracefulShutdown from 'http-graceful-shutdown'

export default async function (app, { deadline, closing }) {
  gracefulShutdown(app.server, {
    signals: 'SIGINT SIGTERM',
    timeout: deadline,
    preShutdown: async () => closing(),
    onShutdown: () => app.close()
  })
  return {}
}
