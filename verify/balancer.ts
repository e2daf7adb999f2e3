import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from './free-port.ts'
import { now, type Time } from './history.ts'

interface Options {
  /** Of the instances, on 127.0.0.1. */
  readonly ports: readonly number[]
  /** 2xx there: an instance may have traffic. */
  readonly readiness: string
  /** Where its settings and its log go. */
  readonly directory: string
}

const command = 'haproxy'
const install = 'Install it: apt-get install -y haproxy (Debian), brew install haproxy (macOS).'
/** Debian has it where not everybody looks. */
const path = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`
const readyLimitMs = 30_000
const pollMs = 20

/** Why there can be no balancer on this machine; undefined where there can. */
export function balancerMissing (): string | undefined {
  const { error } = spawnSync(command, ['-v'], { env: { PATH: path } })
  return error && `HAProxy does not run here (${error.message}). ${install}`
}

/**
 * HAProxy in front of the instances, with its retries off: by default it would send a request that failed to another
 * instance, and hide what is to be found.
 */
export class Balancer {
  readonly url: string
  readonly #process: ChildProcess
  readonly #allUp: string
  readonly #log: string
  readonly #endWithHarness = (): void => { this.#process.kill('SIGKILL') }

  private constructor (process_: ChildProcess, ports: { front: number, allUp: number }, log: string) {
    this.#process = process_
    this.url = `http://127.0.0.1:${ports.front}`
    this.#allUp = `http://127.0.0.1:${ports.allUp}/`
    this.#log = log
    process.on('exit', this.#endWithHarness)
  }

  /** Starts it; no instance need run yet. */
  static async start ({ ports, readiness, directory }: Options): Promise<Balancer> {
    const own = { front: await freePort(), allUp: await freePort() }
    const file = join(directory, 'haproxy.cfg')
    await writeFile(file, settings(own, ports, readiness))
    const log = join(directory, 'haproxy.log')
    const output = openSync(log, 'a')
    const child = spawn(command, ['-db', '-f', file], { stdio: ['ignore', output, output], env: { PATH: path }, detached: true })
    closeSync(output)
    const [spawned] = await Promise.race([once(child, 'spawn').then(() => [true]), once(child, 'error').then(() => [false])])
    if (spawned !== true) throw new Error(`HAProxy was not started, and nothing behind it was asked. ${install}`)
    return new Balancer(child, own, log)
  }

  /**
   * Resolves with the moment when it routes to every instance.
   *
   * @throws Error with the end of its log
   */
  async allUp (): Promise<Time> {
    const until = now() + readyLimitMs
    while (!await answers(this.#allUp)) {
      const ended = this.#process.exitCode ?? this.#process.signalCode
      if (ended !== null || now() > until) {
        const words = readFileSync(this.#log, 'utf8').trim().split('\n').slice(-8).join('\n')
        throw new Error(`HAProxy ${ended === null ? `did not route to every instance within ${readyLimitMs / 1_000} s` : `ended with ${ended}`}.\n${words}\nIts whole log is ${this.#log}.`)
      }
      await delay(pollMs)
    }
    return now()
  }

  async close (): Promise<void> {
    process.off('exit', this.#endWithHarness)
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    this.#process.kill('SIGKILL')
    await once(this.#process, 'exit')
  }
}

/**
 * An instance that is not ready is noticed within half a second: `fall` times `inter`. It must go on accepting for longer
 * than that after it said so.
 */
function settings (own: { front: number, allUp: number }, ports: readonly number[], readiness: string): string {
  return `
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout check 2s

frontend clients
  bind 127.0.0.1:${own.front}
  default_backend instances

frontend all-up
  bind 127.0.0.1:${own.allUp}
  monitor-uri /
  monitor fail if { nbsrv(instances) lt ${ports.length} }

backend instances
  balance roundrobin
  option httpchk GET ${readiness}
  http-check expect status 200-299
  default-server check inter 250ms fall 2 rise 1
${ports.map((port, index) => `  server instance-${index} 127.0.0.1:${port}`).join('\n')}
`
}

async function answers (url: string): Promise<boolean> {
  return await new Promise(resolve => {
    get(url, { agent: false }, response => {
      response.resume()
      resolve(response.statusCode === 200)
    }).on('error', () => resolve(false))
  })
}
