import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../verify/free-port.ts'
import { isCompletion, type Line } from '../../verify/history.ts'
import { products } from '../../verify/products.ts'
import { ServiceInstance } from '../../verify/service/instance.ts'
import type { Run, Target } from '../../verify/target.ts'
import type { Contestant } from './contestants.ts'

export type State = 'starting' | 'serving' | 'draining' | 'gone'

/** Requests by what their clients got: a whole 2xx; an answer that nothing was stored; no whole answer; a 5xx that leaves the outcome open. */
export interface Tally {
  acknowledged: number
  refused: number
  cut: number
  failed: number
}

/** One service, and what its clients have seen. */
export class Lane {
  readonly name: string
  readonly manner: string
  readonly target: Target
  readonly run: Run
  readonly historyFile: string
  readonly instance: ServiceInstance
  readonly url: string
  readonly total: Tally = tally()
  /** By slice of time. */
  readonly slices: readonly Tally[]
  state: State = 'starting'
  /** Its state in words. */
  lastExit = ''
  inFlight = 0

  private constructor ({ target, manner }: Contestant, run: Run, instance: ServiceInstance, slices: number) {
    this.name = target.name
    this.manner = manner
    this.target = target
    this.run = run
    this.instance = instance
    this.url = instance.url
    this.historyFile = join(run.directory, 'history.jsonl')
    this.slices = Array.from({ length: slices }, tally)
  }

  static async create (contestant: Contestant, { directory, databaseUrl, slices }: { directory: string, databaseUrl: string, slices: number }): Promise<Lane> {
    const { target } = contestant
    const run: Run = { directory: join(directory, target.name), databaseUrl, directDatabaseUrl: databaseUrl, products }
    mkdirSync(run.directory)
    const instance = new ServiceInstance({ target, run, instance: { index: 0, port: await freePort(), opsPort: await freePort(), balanced: false } })
    return new Lane(contestant, run, instance, slices)
  }

  async start (): Promise<void> {
    await this.target.prepare?.(this.run)
    await this.#serve()
  }

  /** Sends SIGTERM, and restarts the service when it has exited. */
  async restart (): Promise<void> {
    this.state = 'draining'
    const { exitCode, signal, drainMs } = await this.instance.stop('SIGTERM')
    this.state = 'gone'
    this.lastExit = `${exitCode === null ? `killed by ${signal}` : `exit ${exitCode}`} after ${Math.round(drainMs)} ms`
    await this.#serve()
  }

  /** Adds a line of its history to a slice of time. */
  see (line: Line, slice: number): void {
    if (line.type === 'invoke') {
      this.inFlight++
      return
    }
    if (!isCompletion(line)) return
    this.inFlight--
    const outcome = line.type === 'ok' ? 'acknowledged' : line.type === 'fail' ? 'refused' : line.error === undefined ? 'failed' : 'cut'
    this.total[outcome]++
    // Lines after the end of the load belong to its last slice.
    const counts = this.slices[slice] ?? this.slices.at(-1)
    if (counts !== undefined) counts[outcome]++
  }

  async #serve (): Promise<void> {
    await this.instance.start()
    this.state = 'serving'
  }
}

function tally (): Tally {
  return { acknowledged: 0, refused: 0, cut: 0, failed: 0 }
}
