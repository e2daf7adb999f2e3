import fp from 'fastify-plugin'
import { databaseUrlOf, type Config } from '../config.ts'
import type { RunningSettings } from '../config/running.ts'

export interface SettingsOptions {
  config: Config
  /** undefined: no setting changes while the service runs. */
  running: RunningSettings | undefined
}

declare module 'fastify' {
  interface FastifyInstance {
    settings: {
      /** The settings in force. Read it at each use: a kept value does not change. */
      readonly now: Config
      readonly running: RunningSettings | undefined
      /** DATABASE_URL with the current password: it reads the file again if the password comes from one. */
      databaseUrl (): string | undefined
      /** For code that cannot read `now` at each use. The callback must not throw: all settings change, or none. */
      onChange (follow: (now: Config) => void): void
      /** Calls the followers: `now` has changed. */
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
        // The file is being written, or is invalid: the last valid URL counts.
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
