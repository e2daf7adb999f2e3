import { fork } from 'node:child_process'
import type { ChildProcess, Serializable } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { DrainReport } from 'fastify-drain'
import type { Test } from 'tap'

export interface Line {
  msg: string
  level: number
  reqId?: string
  hook?: string
  drain?: DrainReport
}

type Exit = [code: number | null, signal: NodeJS.Signals | null]

/** A fixture in a process of its own: what it logs, what it says, and how it ends. */
export class Program {
  readonly lines: Line[] = []
  readonly said: Serializable[] = []
  readonly ended: Promise<Exit>
  readonly child: ChildProcess
  url = ''
  /** Its stderr. */
  errors = ''
  #waiting = new Set<() => void>()

  constructor (child: ChildProcess) {
    this.child = child
    if (child.stdout === null) throw new Error('the fixture has no stdout')
    child.stderr?.on('data', (chunk: Buffer) => { this.errors += chunk.toString() })
    const lines = createInterface({ input: child.stdout })
    lines.on('line', text => {
      this.lines.push(text.startsWith('{') ? JSON.parse(text) as Line : { msg: text, level: 0 })
      this.#look()
    })
    child.on('message', message => {
      this.said.push(message)
      this.#look()
    })
    // 'close' comes after the last line, 'exit' may come before it.
    this.ended = once(child, 'close').then(([code, signal]) => {
      this.#look()
      return [code, signal] as Exit
    })
  }

  /** Resolves with the first line that matches, or with the match number `times`. */
  line (msg: string | RegExp, times = 1): Promise<Line> {
    return this.#until(() => this.lines.filter(line => typeof msg === 'string' ? line.msg === msg : msg.test(line.msg))[times - 1], `a line '${String(msg)}' × ${times}`)
  }

  /** Resolves when the fixture has said it that many times. */
  hears (word: string, times = 1): Promise<unknown> {
    return this.#until(() => this.said.filter(said => said === word).length >= times || undefined, `'${word}' × ${times}`)
  }

  /** Resolves with the first word of the fixture that matches. */
  hearsMatch (word: RegExp): Promise<string> {
    return this.#until(() => this.said.find((said): said is string => typeof said === 'string' && word.test(said)), String(word))
  }

  tell (word: string): void {
    this.child.send(word)
  }

  kill (signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  /** What the last line says. */
  get report (): DrainReport {
    const report = this.lines.at(-1)?.drain
    if (report === undefined) throw new Error(`the last line is no report: ${JSON.stringify(this.lines.at(-1))}`)
    return report
  }

  async #until<T> (look: () => T | undefined, what: string): Promise<T> {
    for (;;) {
      const found = look()
      if (found !== undefined) return found
      if (this.child.stdout?.readableEnded === true) throw new Error(`the fixture ended without ${what}: ${JSON.stringify([this.said, this.lines])} ${this.errors}`)
      await new Promise<void>(resolve => this.#waiting.add(resolve))
    }
  }

  #look (): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}

/** ms. A signal later than this after the first is a second signal. A test has to wait for it, because it is a time that it tests. */
export async function burstOver (): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, 1_100))
}

/** Runs `fixtures/<name>.js`, on the Node of DRAIN_TEST_NODE where it is set. */
export async function start (t: Test, name: string, options: object = {}, waitFor: 'listening' | 'nothing' = 'listening'): Promise<Program> {
  const child = fork(fileURLToPath(new URL(`fixtures/${name}.js`, import.meta.url)), [JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    execPath: process.env['DRAIN_TEST_NODE'] ?? process.execPath,
    execArgv: []
  })
  const program = new Program(child)
  t.teardown(() => child.kill('SIGKILL'))
  if (waitFor === 'listening') {
    const { msg } = await program.line(/^Server listening at /)
    program.url = msg.replace('Server listening at ', '')
    await program.hears('listening')
  }
  return program
}
