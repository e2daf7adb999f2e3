import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises'
import { describeExit, judge } from './account.ts'
import type { Exit, StopAccount } from './account.ts'
import { StopTestError } from './errors.ts'
import type { StopTestCode } from './errors.ts'
import { Load, statusOf } from './load.ts'
import { readOptions } from './options.ts'
import type { Settings, StopOptions } from './options.ts'
import { isListening, Service } from './service.ts'

const pollMs = 50
/** The connections of a process end with it. A request that has not ended this long after the exit never will. */
const settleMs = 1_000

/**
 * Starts the command, waits until it is ready, loads it, sends the signal while requests are in flight, goes on loading,
 * and waits for the exit. In every case it ends all that it has started, except processes that made a process group of
 * their own. Needs POSIX signals. Prints nothing.
 *
 * @returns the account, faults included: nothing that the service does during its stop makes this throw
 * @throws StopTestError if no stop could be observed: an option is unusable, something else listens at the address, the
 * service did not become ready or ended before the signal, or the test was called off
 */
export async function observeStop (options: StopOptions): Promise<StopAccount> {
  const settings = readOptions(options)
  if (URL.canParse(settings.url) && await isListening(new URL(settings.url))) {
    throw new StopTestError('ERR_STOP_PORT_TAKEN', `Something listens at ${settings.url} already. Nothing was started: end it, or let the service choose its port and catch it with a \`ready\` pattern.`)
  }
  const service = new Service(settings)
  const { abort } = settings
  let callOff = (): void => {}
  const calledOff = new Promise<never>((_resolve, reject) => {
    callOff = () => reject(failure('ERR_STOP_ABORTED', 'The test was called off', service))
  })
  abort?.addEventListener('abort', callOff)
  if (abort?.aborted === true) callOff()
  try {
    return await observe(service, settings, calledOff)
  } finally {
    abort?.removeEventListener('abort', callOff)
    await service.end()
  }
}

async function observe (service: Service, settings: Settings, calledOff: Promise<never>): Promise<StopAccount> {
  const { signal, startWithin, exitWithin } = settings
  const beforeSignal = [
    calledOff,
    service.failed.then(error => { throw failure('ERR_STOP_NOT_READY', `It could not be started: ${error.message}`, service) }),
    service.exited.then(async exit => {
      await service.outputRead()
      throw failure('ERR_STOP_ENDED_EARLY', `It ended before it was sent ${signal}: ${describeExit(exit)}`, service)
    })
  ]

  const asking = new AbortController()
  const url = await within(startWithin, [whenReady(service, settings, asking.signal), ...beforeSignal]).finally(() => asking.abort())
  if (url === undefined) throw failure('ERR_STOP_NOT_READY', `It was not ready (${String(settings.ready)}) within ${startWithin} ms`, service)

  const load = new Load(url, settings)
  try {
    await within(settings.loadFor, beforeSignal)
    if (await within(startWithin, [load.warm, ...beforeSignal]) === undefined) throw failure('ERR_STOP_NOT_READY', `It did not answer each of ${settings.clients} clients once within ${startWithin} ms`, service)
    // Then each client has read its answer, and sent its next request.
    await turn()
    const { inFlight } = load
    const signalledAt = load.signalledAt = performance.now()
    service.signal(signal)

    const ended = await within(exitWithin, [service.exited, calledOff])
    const exit: Exit = { code: null, signal: null, ...ended, after: Math.round(performance.now() - signalledAt), overdue: ended === undefined }
    if (exit.overdue) {
      load.kill()
    } else {
      load.end()
      await within(settleMs, [load.ended])
    }
    const leftBehind = exit.overdue ? { processes: [], listening: null } : await service.leftBehind(url)
    load.kill()
    await load.ended
    await service.end()

    const account = {
      command: [...settings.command],
      url: url.href,
      signal,
      clients: settings.clients,
      inFlight,
      before: load.before,
      after: load.after,
      statuses: load.statuses,
      examples: load.examples(),
      exit,
      leftBehind,
      output: [...service.output]
    }
    return { ...account, faults: judge(account, settings) }
  } finally {
    load.kill()
  }
}

/** Resolves with the URL of the load. */
async function whenReady (service: Service, { ready, url }: Settings, signal: AbortSignal): Promise<URL> {
  if (ready instanceof RegExp) {
    const [, origin] = await service.line(ready)
    return new URL(url, origin)
  }
  for (;;) {
    const status = await statusOf(new URL(ready))
    if (status !== undefined && status < 500) return new URL(url)
    await delay(pollMs, undefined, { signal })
  }
}

/** Resolves with the first result; with undefined if none comes in time. */
async function within<T> (ms: number, promises: Array<Promise<T>>): Promise<T | undefined> {
  const timer = new AbortController()
  try {
    return await Promise.race([...promises, delay(ms, undefined, { signal: timer.signal })])
  } finally {
    timer.abort()
  }
}

function failure (code: StopTestCode, what: string, { command, output }: Service): StopTestError {
  const printed = output.length === 0 ? 'It printed nothing.' : `Its last output:\n${output.map(line => `    ${line}`).join('\n')}`
  return new StopTestError(code, `${command.join(' ')}: ${what}. No stop was tested, and nothing is left running.\n  ${printed}`)
}
