import { fork } from 'node:child_process'
import { once } from 'node:events'
import { extname, join } from 'node:path'
import type { ConsumerSettings, Received, TellConsumer } from './consumer/settings.ts'
import { freePort } from './free-port.ts'
import { linesOf } from './lines.ts'

/** In the package it is JavaScript, as this module is then. */
const program = join(import.meta.dirname, `consumer/main${extname(import.meta.filename)}`)

/** Where the service's events go, from outside: a process of its own, which ends by itself where this one does. */
export interface ConsumerProcess {
  /** It takes a POST at any path. */
  readonly url: string
  /** Resolves when it takes no delivery any more, or takes them again. */
  set: (state: TellConsumer) => Promise<void>
  /** What it has received, in order; what a killed service had not sent whole is not there. */
  received: () => Iterable<Received>
  close: () => Promise<void>
}

export async function startConsumer (ledgerFile: string): Promise<ConsumerProcess> {
  const port = await freePort()
  const settings: ConsumerSettings = { ledgerFile, port }
  const child = fork(program, [JSON.stringify(settings)], { execArgv: [] })
  const exited = once(child, 'exit').then(([code, signal]) => { throw new Error(`The consumer of events ended with ${String(signal ?? code)}; what it printed says why.`) })
  exited.catch(() => {})
  await Promise.race([once(child, 'message'), exited])
  return {
    url: `http://127.0.0.1:${port}/events`,
    async set (state) {
      const done = once(child, 'message')
      child.send(state)
      await Promise.race([done, exited])
    },
    received: () => ledgerOf(ledgerFile),
    async close () {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
  }
}

function * ledgerOf (file: string): Generator<Received> {
  // Behind the last end of a line is what it writes at this moment.
  for (const line of linesOf(file)) if (line.length > 0) yield JSON.parse(line.toString()) as Received
}
