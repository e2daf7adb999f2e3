import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { Agent, get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { startService } from '../service.ts'
import type { Service } from '../service.ts'

/** A service that has not exited after this time is killed, and counts as slower than this. */
export const longestMs = 6_000
export const idleMs = 200
/** The next service waits this long for its turn. */
const turnMs = 300

/** ms: from the last byte of the answer to the exit, and from the signal to the exit of an idle service. */
export interface ExitTimes {
  readonly afterAnswer: number[]
  readonly idle: number[]
}

export async function peers (): Promise<string[]> {
  const files = await readdir(new URL('../peers', import.meta.url))
  return files.filter(file => file.endsWith('.js')).map(file => file.slice(0, -'.js'.length))
}

/**
 * Stops each service once in each way, one after the other, and adds the times to its own.
 *
 * @returns the services that have not exited yet: they only sleep, and the next round need not wait for them
 */
export async function measureExits (subjects: ReadonlyMap<string, ExitTimes>, core: number | undefined): Promise<Array<Promise<void>>> {
  const pending: Array<Promise<void>> = []
  for (const [name, times] of subjects) {
    for (const [into, from] of [[times.afterAnswer, stopUnderway], [times.idle, stopIdle]] as const) {
      const service = await startService(new URL('stopping.ts', import.meta.url), [name], { core })
      const exited = once(service.child, 'exit').then(() => performance.now())
      const agent = new Agent({ keepAlive: true })
      // A client of the idle service keeps its connection, too.
      await answered(service, agent)
      const since = await from(service, agent)
      const done = exitOf(service, exited, since).then(elapsed => {
        into.push(elapsed)
        agent.destroy()
      })
      pending.push(done)
      await Promise.race([done, sleep(turnMs)])
    }
  }
  return pending
}

async function stopUnderway (service: Service, agent: Agent): Promise<number> {
  const request = get({ port: service.port, path: '/transaction', agent })
  // A connection that a peer's service resets counts as its answer.
  const ended = new Promise<number>(resolve => {
    request.on('response', response => response.resume().on('close', () => resolve(performance.now())))
    request.on('error', () => resolve(performance.now()))
  })
  await once(request, 'finish')
  await sleep(30)
  service.child.kill('SIGTERM')
  return ended
}

async function stopIdle (service: Service): Promise<number> {
  // A client that was just answered may be about to ask again, so the service is not idle yet.
  await sleep(idleMs)
  const since = performance.now()
  service.child.kill('SIGTERM')
  return since
}

async function answered (service: Service, agent: Agent): Promise<void> {
  const [response] = await once(get({ port: service.port, path: '/transaction', agent }), 'response') as [IncomingMessage]
  await once(response.resume(), 'end')
}

async function exitOf (service: Service, exited: Promise<number>, since: number): Promise<number> {
  const late = new AbortController()
  const killed = sleep(longestMs, undefined, { signal: late.signal }).then(() => service.child.kill('SIGKILL'), () => {})
  const at = await exited
  late.abort()
  await killed
  return at - since
}
