import { extname, join } from 'node:path'
import { Child } from './child.ts'
import type { ConsumerSettings, Received, TellConsumer } from './consumer/settings.ts'
import { freePort } from './free-port.ts'
import { linesOf } from './lines.ts'

/** In the package it is JavaScript, like this module. */
const program = join(import.meta.dirname, `consumer/main${extname(import.meta.filename)}`)

/** Controls the consumer of the service's events: a process of its own, which ends when this one ends. */
export interface ConsumerProcess {
  /** It accepts a POST at any path. */
  readonly url: string
  /** Resolves when the consumer accepts no deliveries any more, or accepts them again. */
  set: (state: TellConsumer) => Promise<void>
  /** What it has received, in sequence. A delivery that a killed service had not sent completely is missing. */
  received: () => Iterable<Received>
  close: () => Promise<void>
}

export async function startConsumer (ledgerFile: string): Promise<ConsumerProcess> {
  const port = await freePort()
  const settings: ConsumerSettings = { ledgerFile, port }
  const child = await Child.start<TellConsumer>(program, settings, 'The consumer of events')
  return {
    url: `http://127.0.0.1:${port}/events`,
    set: async state => await child.tell(state),
    received: () => ledgerOf(ledgerFile),
    close: async () => await child.end()
  }
}

function * ledgerOf (file: string): Generator<Received> {
  // After the last end of a line is a line that it is writing now.
  for (const line of linesOf(file)) if (line.length > 0) yield JSON.parse(line.toString()) as Received
}
