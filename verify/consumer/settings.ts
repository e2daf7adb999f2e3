import type { Time } from '../history.ts'

/** What the program of the consumer is started with: its one argument, as JSON. */
export interface ConsumerSettings {
  /** Absolute path; must not exist. A line of JSON, a `Received`, for each request. */
  readonly ledgerFile: string
  /** Of 127.0.0.1. */
  readonly port: number
}

/** One delivery, as it came. */
export interface Received {
  readonly at: Time
  readonly body: string
}

/** What its parent tells it: to cut every delivery from now on, or to take them again. It answers with the same word when it has done so. */
export type TellConsumer = 'down' | 'up'
