import { fork, type ChildProcess, type Serializable } from 'node:child_process'
import { once } from 'node:events'
import { UserError } from '../user-error.ts'

/** A program of the harness in a process of its own, which answers each message with one, and ends when this process ends. */
export class Child<Told extends Serializable> {
  readonly #child: ChildProcess
  readonly #ended: Promise<never>

  /** Resolves when the program has sent its first message. @param name the subject of the error if it ends by itself */
  static async start<Told extends Serializable> (program: string, settings: object, name: string): Promise<Child<Told>> {
    const child = new Child<Told>(program, settings, name)
    await child.#next()
    return child
  }

  private constructor (program: string, settings: object, name: string) {
    this.#child = fork(program, [JSON.stringify(settings)], { execArgv: [] })
    this.#ended = once(this.#child, 'exit').then(([code, signal]) => { throw new UserError(`${name} ended with ${String(signal ?? code)}; what it printed says why.`) })
    this.#ended.catch(() => {})
  }

  async tell (told: Told): Promise<void> {
    const done = this.#next()
    this.#child.send(told)
    await done
  }

  async end (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await gone
  }

  async #next (): Promise<void> {
    await Promise.race([once(this.#child, 'message'), this.#ended])
  }
}
