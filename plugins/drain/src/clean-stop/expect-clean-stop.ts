import { describe } from './account.ts'
import type { StopAccount } from './account.ts'
import { StopTestError } from './errors.ts'
import { observeStop } from './observe-stop.ts'
import type { StopOptions } from './options.ts'

/** Its message is the account as text for people. */
export class UncleanStopError extends StopTestError {
  readonly account: StopAccount

  constructor (account: StopAccount) {
    super('ERR_STOP_UNCLEAN', describe(account))
    this.name = 'UncleanStopError'
    this.account = account
  }
}

/**
 * Starts a service, loads it, sends it SIGTERM under load, and checks what its clients saw and what is left running.
 *
 * @returns the account of a clean stop
 * @throws UncleanStopError if the stop has a fault; StopTestError, like `observeStop()`, if no stop could be observed
 */
export async function expectCleanStop (options: StopOptions): Promise<StopAccount> {
  const account = await observeStop(options)
  if (account.faults.length > 0) throw new UncleanStopError(account)
  return account
}
