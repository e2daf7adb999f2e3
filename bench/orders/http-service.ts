import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { connect } from 'node:net'
import { Program } from '../../verify/program.ts'
import type { Command } from '../../verify/target.ts'

interface Place {
  /** The port of 127.0.0.1 to listen on. */
  readonly port: number
  /** Its working folder, which has no .env. */
  readonly directory: string
  /** The file for its output. */
  readonly log: string
}

/** A contestant's process while it listens. It dies with this one. */
export class HttpService {
  readonly port: number
  readonly pid: number
  readonly #program: Program
  readonly #log: string

  private constructor (program: Program, { port, log }: Place) {
    this.#program = program
    this.pid = program.pid
    this.port = port
    this.#log = log
  }

  /**
   * Resolves when it accepts connections.
   *
   * @throws Error with the end of its output, if it ends before that or takes too long; it is killed then
   */
  static async start ({ command: [command, ...args], env }: Command, place: Place): Promise<HttpService> {
    const program = await Program.start({ command, args, env, cwd: place.directory, log: place.log })
    try {
      await program.until('listen on its port', async () => await takesConnections(place.port))
    } catch (error) {
      await program.close()
      throw error
    }
    return new HttpService(program, place)
  }

  /**
   * Stops it by SIGTERM and removes its output: the log of a measurement can be as large as its orders.
   *
   * @throws Error if it exits with a code other than 0
   */
  async stop (): Promise<void> {
    const ended = await this.#program.close('SIGTERM')
    if (typeof ended === 'number' && ended !== 0) throw new Error(`A service exited with ${ended}.\n${this.#program.lastWords}`)
    rmSync(this.#log, { force: true })
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
