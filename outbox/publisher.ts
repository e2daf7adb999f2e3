/** An event that the broker did not take, and why. */
export interface Refusal<M> {
  message: M
  reason: unknown
}

/**
 * The destination of the events: a fork plugs its broker in here.
 *
 * Delivery is at least once, and in order for each subject. A consumer ignores a message that it has seen before.
 */
export interface Publisher<M> {
  /** The relay calls it before the first message, until it has resolved once. Writes go on meanwhile. Later the publisher reconnects by itself. */
  connect? (signal: AbortSignal): Promise<void>
  /**
   * Resolves once the broker has the messages for good, with the messages that it refused; with nothing if it took all.
   * Rejects if it took none, or if that is not known: the relay publishes all of them again, each in a call of its own.
   * The messages of a call are of different subjects. `signal` aborts when the lease of the events is about to end.
   * If traces are on, the active context is that of this call.
   */
  publish (messages: M[], signal: AbortSignal): Promise<Array<Refusal<M>> | void>
  /** What is wrong with it, as a clause; undefined if nothing is. Shown at `/readyz?verbose`; it does not change readiness. */
  health? (): string | undefined
  close? (): Promise<void>
}
