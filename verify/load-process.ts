import { fork } from 'node:child_process'
import { once } from 'node:events'
import { extname, join } from 'node:path'
import { UserError } from '../user-error.ts'
import type { Counts, Settings, Tell, Told } from './load/settings.ts'

/** In the package it is JavaScript, like this module. */
const program = join(import.meta.dirname, `load/main${extname(import.meta.filename)}`)

/** Controls the load: it runs in a process of its own, which ends when this one ends. */
export interface LoadProcess {
  /** The counts of its last message. */
  readonly counts: Counts
  /** Resolves when the load has begun: its program takes a while to start. */
  readonly begun: Promise<void>
  /** Resolves when it has sent all requests and got their answers. @throws UserError if it ended before that */
  readonly done: Promise<void>
  /** Sends `count` requests at once and resolves when they are under way. Until `ms` have passed, each answer is followed by another request. */
  burst: (count: number, ms: number) => Promise<void>
  /** Ends a load that waits for this: it goes on for `rest` ms more. */
  finish: (rest: number) => void
  kill: () => boolean
}

export function startLoad (settings: Settings): LoadProcess {
  const child = fork(program, [JSON.stringify(settings)], { execArgv: [] })
  let counts: Counts = { invoked: 0, ok: 0, fail: 0, info: 0, inFlight: 0, acknowledged: 0 }
  const { promise: done, resolve, reject } = Promise.withResolvers<void>()
  // A caller may await it only after it has failed.
  done.catch(() => {})
  const begun = Promise.race([once(child, 'message').then(() => {}), done])
  begun.catch(() => {})
  const bursts: Array<() => void> = []
  child.on('message', (told: Told) => {
    if (told === 'done') resolve()
    else if (told === 'burst') bursts.shift()?.()
    else counts = told.progress
  })
  child.once('error', reject)
  child.once('exit', (code, signal) => {
    reject(new UserError(`The load ended with ${signal ?? code} before it was done; ${settings.historyFile} holds what it did until then. What it printed says why.`))
  })
  return {
    get counts () {
      return counts
    },
    begun,
    done,
    async burst (count, ms) {
      const { promise: begun, resolve } = Promise.withResolvers<void>()
      bursts.push(resolve)
      child.send({ burst: count, ms } satisfies Tell)
      await Promise.race([begun, done])
    },
    finish (rest) {
      child.send({ finish: rest } satisfies Tell)
    },
    kill: () => child.kill('SIGKILL')
  }
}
