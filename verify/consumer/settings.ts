import type { Time } from '../history.ts'

/** The settings of the consumer's program: its only argument, as JSON. */
export interface ConsumerSettings {
  /** Absolute path of a file that does not exist yet. It gets a line of JSON, a `Received`, for each request. */
  readonly ledgerFile: string
  /** The port of 127.0.0.1. */
  readonly port: number
}

/** One delivery, as it arrived. */
export interface Received {
  readonly at: Time
  readonly body: string
}

/** The commands of its parent: cut every delivery from now on, or accept them again. It answers with the same word when it has done so. */
export type TellConsumer = 'down' | 'up'
