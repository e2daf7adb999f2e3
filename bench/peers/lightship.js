// "Usage" and "Best practices" of its README: a delay before the server closes, and beacons for tasks.
import { createLightship } from 'lightship'

export default async function (app, { deadline, lameDuck, closing }) {
  const shutdownDelay = Math.max(lameDuck.max, 1_000)
  const lightship = await createLightship({
    shutdownDelay,
    gracefulShutdownTimeout: deadline - shutdownDelay,
    shutdownHandlerTimeout: deadline - shutdownDelay,
    signals: ['SIGTERM', 'SIGINT']
  })
  lightship.registerShutdownHandler(closing)
  lightship.registerShutdownHandler(() => app.close())
  return {
    ready: () => lightship.isServerReady(),
    listening: () => lightship.signalReady(),
    track: async (label, promise) => {
      const beacon = lightship.createBeacon({ label })
      await promise.finally(() => beacon.die())
    }
  }
}
