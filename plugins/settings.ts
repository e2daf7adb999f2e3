import fp from 'fastify-plugin'
import { databaseUrlOf, type Config } from '../config.ts'
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
      /** DATABASE_URL with the password of this moment: read from its file again, where it comes from one. */
      databaseUrl (): string | undefined
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
    databaseUrl () {
      try {
        if (running !== undefined) return databaseUrlOf(running.layers.environment)
      } catch {
        // A file that is just being written, or is no good: the last good one counts.
      }
      return app.settings.now.database.url
    },
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
