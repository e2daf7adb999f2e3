export type StopTestCode =
  /** An option has a value that the kit cannot use. */
  | 'ERR_STOP_OPTION'
  /** Something else listens at the address of the service. */
  | 'ERR_STOP_PORT_TAKEN'
  /** The service did not become ready, or did not answer each client once, within `startWithin`. */
  | 'ERR_STOP_NOT_READY'
  /** The service ended before the signal. */
  | 'ERR_STOP_ENDED_EARLY'
  /** The test was called off through `abort`. */
  | 'ERR_STOP_ABORTED'
  /** The stop had a fault. */
  | 'ERR_STOP_UNCLEAN'

/** The stop could not be observed, or was not clean. Nothing that the kit started still runs. */
export class StopTestError extends Error {
  readonly code: StopTestCode

  constructor (code: StopTestCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StopTestError'
    this.code = code
  }
}
