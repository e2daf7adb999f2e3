import { fork, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect as netConnect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from '../../plugins/drain/test/connect.ts'
import { Program } from '../../plugins/drain/test/start.ts'
import { Fault, must } from './fault.ts'
import { ask, inTime } from './ask.ts'
import type { Answer, Asking } from './ask.ts'
import type { Subject } from './subjects.ts'

/** The deadline of every subject that supports one, ms. */
export const usualDeadline = 4_000

export interface ServiceOptions {
  deadline?: number
  lameDuck?: { min?: number, quiet?: number, max: number, jitter?: number }
  http2?: boolean
  tls?: { key: string, cert: string }
  host?: string
  apps?: number
  websocket?: boolean
  pressure?: boolean
  slowBoot?: boolean
  stuckHook?: boolean
  /** The application ends its streams in a preClose hook of its own, and passes none to the package. */
  preClose?: boolean
  /** The upstream of /proxied. */
  upstream?: string
  /** A `ws` server, attached when the app listens. */
  lateWebSocket?: boolean
  /** A listener of its own for SIGHUP. */
  reopensLogs?: boolean
  /** Logs only warnings and worse, for cases with hundreds of requests. */
  quiet?: boolean
}

export interface Exit {
  /** The exit code, or the signal that ended the process. */
  code: number | string
  /** ms since the last signal, or since the start. */
  after: number
}

/** The subject's program in a process of its own. */
export class Service extends Program {
  readonly deadline: number
  readonly #cleanExit: number
  #since = performance.now()
  #linesBefore = 0

  constructor (child: ChildProcess, deadline: number, cleanExit: number) {
    super(child)
    this.deadline = deadline
    this.#cleanExit = cleanExit
  }

  /** The addresses that it listens on. */
  get urls (): string[] {
    return this.lines.flatMap(({ msg }) => /^listening at (.*)$/.exec(msg)?.[1] ?? [])
  }

  get origin (): string {
    const [url] = this.urls
    if (url === undefined) throw new Error('the service does not listen')
    return url
  }

  signal (signal: NodeJS.Signals = 'SIGTERM'): void {
    this.mark()
    this.kill(signal)
  }

  /** Times count from now on, and only later lines are searched. */
  mark (): void {
    this.#since = performance.now()
    this.#linesBefore = this.lines.length
  }

  /** Whether its output since the signal names it. Lines that Fastify logs at the start of each request do not count: they may be late. */
  named (name: string): boolean {
    const lines = this.lines.slice(this.#linesBefore).filter(({ msg }) => msg !== 'incoming request')
    return this.errors.includes(name) || lines.some(line => JSON.stringify(line).includes(name))
  }

  has (word: string): boolean {
    return this.lines.some(({ msg }) => msg === word)
  }

  says (word: string | RegExp, fault: string, times = 1): Promise<unknown> {
    return inTime(this.deadline + 2_000, this.line(word, times).catch(() => { throw new Fault(fault) }), fault)
  }

  ask (path: string, asking: Asking = {}): Promise<Answer> {
    return ask(this.origin + path, asking)
  }

  /** Resolves when the transaction has begun. The answer is wrapped in an object, because a bare promise would be awaited. */
  async begin (name: string, ms: number, asking: Asking = {}): Promise<{ answer: Promise<Answer> }> {
    const answer = this.ask(`/async?name=${name}&ms=${ms}`, asking)
    await this.says(`begun ${name}`, 'not begun')
    return { answer }
  }

  /** A request that never gets an answer. */
  async beginHanging (asking: Asking = {}): Promise<{ answer: Promise<Answer> }> {
    const answer = this.ask('/hang', asking)
    await this.says('begun hang', 'not begun')
    return { answer }
  }

  /** A client that hangs up while its handler works. */
  async beginAndLeave (path: string, name: string, ms: number): Promise<void> {
    const client = await this.connect()
    client.get(`${path}?name=${name}&ms=${ms}`)
    await this.says(`begun ${name}`, 'not begun')
    client.socket.destroy()
    // Time for the service to notice.
    await sleep(100)
  }

  async connect (origin = this.origin): Promise<Client> {
    const { hostname, port } = new URL(origin)
    const client = new Client(netConnect(Number(port), hostname))
    await once(client.socket, 'connect')
    return client
  }

  /** @param within ms since the last signal */
  async exit (within = this.deadline + 1_500): Promise<Exit> {
    const left = within - (performance.now() - this.#since)
    const [code, signal] = await inTime(left, this.ended, `no exit in ${within / 1_000} s`)
    return { code: code ?? signal ?? 'unknown', after: performance.now() - this.#since }
  }

  /** It must exit with the code that its subject gives a clean stop. */
  async exitsClean (within: number): Promise<void> {
    const { code } = await this.exit(within)
    must(code === this.#cleanExit, `exit ${code}`)
  }

  mustCommit (name: string): void {
    must(this.has(`committed ${name}`), this.has('pool closed') ? 'pool closed under it' : 'killed')
  }
}

/** Starts the programs of one cell of the table, and ends all of them. */
export class Cell {
  readonly #subject: Subject
  readonly #node: string
  readonly #services: Service[] = []

  constructor (subject: Subject, node: string) {
    this.#subject = subject
    this.#node = node
  }

  /** @param waitFor a word that the program prints when it is ready */
  async start (options: ServiceOptions = {}, waitFor = 'started'): Promise<Service> {
    const child = fork(program, [this.#argument(options)], { execPath: this.#node, execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'], detached: true })
    return this.#started(child, options.deadline ?? usualDeadline, waitFor)
  }

  /** The command line, for another program to start. */
  command (): string[] {
    return [this.#node, program, this.#argument({})]
  }

  /** Like `npm start` in a terminal: npm, its shell and the service are one group, which gets every signal. */
  startByNpm (folder: string): Promise<Service> {
    const child = spawn('npm', ['start'], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    return this.#started(child, usualDeadline, 'started')
  }

  end (): void {
    for (const { child } of this.#services) signalGroup(child, 'SIGKILL')
  }

  /** The last output of its programs. */
  log (): string {
    return this.#services.map(({ lines, errors }) => [...lines.slice(-20).map(line => JSON.stringify(line)), errors].join('\n')).join('\n')
  }

  async #started (child: ChildProcess, deadline: number, waitFor: string): Promise<Service> {
    const service = new Service(child, deadline, this.#subject.cleanExit ?? 0)
    this.#services.push(service)
    await inTime(30_000, service.line(waitFor), 'does not start')
    service.mark()
    return service
  }

  #argument ({ lameDuck = { max: 0 }, ...options }: ServiceOptions): string {
    return JSON.stringify({
      subject: this.#subject.name,
      deadline: usualDeadline,
      host: '127.0.0.1',
      apps: 1,
      ...options,
      lameDuck: { min: lameDuck.max, ...lameDuck }
    })
  }
}

const program = fileURLToPath(new URL('subject.js', import.meta.url))

export function signalGroup ({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}
