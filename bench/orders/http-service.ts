import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from '../../verify/target.ts'

interface Place {
  /** The port of 127.0.0.1 to listen on. */
  readonly port: number
  /** Its working folder, which has no .env. */
  readonly directory: string
  /** The file for its output. */
  readonly log: string
}

const startLimitMs = 30_000
const pollMs = 20
/** How much of its output an error quotes, in lines. */
const quotedLines = 15

/** A contestant's process while it listens. It dies with this one. */
export class HttpService {
  readonly port: number
  readonly #child: ChildProcess
  readonly #log: string
  readonly #killNow = (): void => { this.#child.kill('SIGKILL') }

  private constructor (child: ChildProcess, { port, log }: Place) {
    this.#child = child
    this.port = port
    this.#log = log
    process.on('exit', this.#killNow)
  }

  /**
   * Resolves when it accepts connections.
   *
   * @throws Error with the end of its output, if it ends before that or takes too long; it is killed then
   */
  static async start ({ command: [file, ...args], env }: Command, place: Place): Promise<HttpService> {
    const log = openSync(place.log, 'a')
    const child = spawn(file, args, { cwd: place.directory, env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', log, log] })
    closeSync(log)
    const service = new HttpService(child, place)
    const until = performance.now() + startLimitMs
    while (!await takesConnections(place.port)) {
      if (child.exitCode !== null || child.signalCode !== null || performance.now() > until) {
        const words = service.#lastWords()
        await service.stop().catch(() => {})
        throw new Error(`${[file, ...args].join(' ')} did not come to listen on its port, and was ended.\n${words}`)
      }
      await delay(pollMs)
    }
    return service
  }

  get pid (): number {
    return this.#child.pid ?? 0
  }

  /**
   * Stops it by SIGTERM and removes its output: the log of a measurement can be as large as its orders.
   *
   * @throws Error if it exits with a code other than 0
   */
  async stop (): Promise<void> {
    const child = this.#child
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    process.off('exit', this.#killNow)
    if (child.exitCode !== null && child.exitCode !== 0) throw new Error(`A service exited with ${child.exitCode}.\n${this.#lastWords()}`)
    rmSync(this.#log, { force: true })
  }

  #lastWords (): string {
    const lines = readFileSync(this.#log, 'utf8').trimEnd().split('\n').slice(-quotedLines)
    return `The end of what it printed:\n${lines.map(line => `  ${line}`).join('\n')}`
  }
}

async function takesConnections (port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
