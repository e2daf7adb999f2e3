import { fork } from 'node:child_process'
import { once } from 'node:events'
import { extname, join } from 'node:path'
import type { Counts, Settings, Tell, Told } from './load/settings.ts'

/** In the package it is JavaScript, as this module is then. */
const program = join(import.meta.dirname, `load/main${extname(import.meta.filename)}`)

/** The load, from outside: it runs in a process of its own, which ends by itself where this one does. */
export interface LoadProcess {
  /** As it last told them. */
  readonly counts: Counts
  /** Resolves when it is under way: its program takes a while to start. */
  readonly begun: Promise<void>
  /** Resolves when it has asked everything and got what answers there were. @throws Error where it ended before that */
  readonly done: Promise<void>
  /** Sends so many requests at once, resolves when they are on their way, and sends another for each that is answered within so many ms. */
  burst: (count: number, ms: number) => Promise<void>
  /** For a load that goes on until then: so many ms of arrivals more. */
  finish: (rest: number) => void
  kill: () => boolean
}

export function startLoad (settings: Settings): LoadProcess {
  const child = fork(program, [JSON.stringify(settings)], { execArgv: [] })
  let counts: Counts = { invoked: 0, ok: 0, fail: 0, info: 0, inFlight: 0, acknowledged: 0 }
  const { promise: done, resolve, reject } = Promise.withResolvers<void>()
  // Whoever waits for it may come later than its failure.
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
    reject(new Error(`The load ended with ${signal ?? code} before it was done; ${settings.historyFile} holds what it did until then. What it printed says why.`))
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
