import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import { describeExit, judge } from './account.ts'
import type { StopAccount } from './account.ts'
import { StopTestError } from './errors.ts'
import type { StopTestCode } from './errors.ts'
import { Load, status } from './load.ts'
import { readOptions } from './options.ts'
import type { Settings, StopOptions } from './options.ts'
import { accepts, Service } from './service.ts'

const POLL_MS = 50
/** Connections end with the process that holds them: what is not over this long after it never will be. */
const SETTLE_MS = 1_000

/**
 * Starts the command, waits until it is ready, loads it, sends the signal while requests are in flight, goes on loading,
 * and waits for the exit. Whatever comes of it, nothing that was started still runs afterwards, unless it has made a
 * process group of its own. Works where there are POSIX signals.
 *
 * @returns what was seen, faults included: the stop itself never makes it throw
 * @throws StopTestError where there was no stop to be seen, with its last output: the service did not become ready, ended
 * before the signal, or was called off
 */
export async function observeStop (options: StopOptions): Promise<StopAccount> {
  const settings = readOptions(options)
  const { abort } = settings
  const test = new StopTest(settings)
  const calledOff = (): void => test.callOff()
  abort?.addEventListener('abort', calledOff)
  try {
    if (abort?.aborted === true) calledOff()
    return await Promise.race([test.run(), test.calledOff])
  } finally {
    abort?.removeEventListener('abort', calledOff)
    await test.end()
  }
}
