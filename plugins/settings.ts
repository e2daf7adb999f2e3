import fp from 'fastify-plugin'
import type { Config } from '../config.ts'
import type { RunningSettings } from '../config/running.ts'

export interface SettingsOptions {
  config: Config
  /** What can change while the service runs; undefined: nothing does. */
  running: RunningSettings | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    settings: {
      /** What is in force at this moment. To be read where it is used: what is kept of it does not change. */
      readonly now: Config
      readonly running: RunningSettings | undefined
      /** For what cannot read `now` each time. The callback must not throw: all settings change, or none. */
      onChange (follow: (now: Config) => void): void
      /** Tells that `now` is another one. */
      changed (): void
    }
  }
}

/** The settings in force. */
export default fp<SettingsOptions>(async (app, { config, running }) => {
  const followers: Array<(now: Config) => void> = []
  let { logLevel } = config
  app.decorate('settings', {
    get now () {
      return running?.now ?? config
    },
    running,
    onChange (follow) {
      followers.push(follow)
    },
    changed () {
      for (const follow of followers) follow(app.settings.now)
    }
  })
  app.settings.onChange(now => {
    if (now.logLevel === logLevel) return
    logLevel = now.logLevel
    app.log.level = logLevel
  })
}, { name: 'settings', fastify: '5.x' })
