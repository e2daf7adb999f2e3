import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { get } from 'node:http'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Balancer, BalancerOptions } from '../balancer.ts'
import { UserError } from '../../user-error.ts'
import { freePort } from '../free-port.ts'
import type { Time } from '../history.ts'
import { Program } from '../program.ts'

const settings = join(import.meta.dirname, '../../deploy/nginx/last-orders.conf')

/**
 * nginx does not learn of a stop: a reload takes an instance out before its stop, and another reload puts it back. Before
 * 1.27.4 a reload closes idle client connections without notice, so clients get no keep-alive connections.
 */
export class Nginx implements Balancer {
  readonly url: string
  readonly #ports: { front: number, generation: number }
  readonly #instances: BalancerOptions['instances']
  readonly #directory: string
  readonly #out = new Set<number>()
  #generation = 0
  #program!: Program

  private constructor (ports: { front: number, generation: number }, { instances, directory }: BalancerOptions) {
    this.url = `http://127.0.0.1:${ports.front}`
    this.#ports = ports
    this.#instances = instances
    this.#directory = directory
  }

  static async start (options: BalancerOptions): Promise<Nginx> {
    const nginx = new Nginx({ front: await freePort(), generation: await freePort() }, options)
    await nginx.#write()
    nginx.#program = await Program.start({ command: 'nginx', args: nginx.#args(), log: join(options.directory, 'nginx.log') })
    return nginx
  }

  /** Does not wait for the reload, like an operator: the old workers may accept for a moment longer, and the instance still serves. */
  async takeOut (index: number): Promise<void> {
    this.#out.add(index)
    await this.#reload()
  }

  async allUp (): Promise<Time> {
    if (this.#out.size > 0) {
      this.#out.clear()
      await this.#reload()
    }
    return await this.#program.until('take its settings', async () => await answerOf(this.#ports.generation) === String(this.#generation))
  }

  async close (): Promise<void> {
    await this.#program.close()
  }

  #args (): string[] {
    return ['-e', 'stderr', '-p', this.#directory, '-c', join(this.#directory, 'nginx.conf')]
  }

  async #reload (): Promise<void> {
    await this.#write()
    this.#program.tell(...this.#args(), '-s', 'reload')
  }

  async #write (): Promise<void> {
    const { front, generation } = this.#ports
    const changes: Array<[string, string]> = [
      ['listen 80;', `listen 127.0.0.1:${front};`],
      ...this.#instances.map(({ port }, index): [string, string] => [`server 10.0.0.1${index + 1}:3000 fail_timeout=2s;`, `server 127.0.0.1:${port} fail_timeout=2s${this.#out.has(index) ? ' down' : ''};`]),
      ['proxy_next_upstream error timeout;', 'proxy_next_upstream off;'],
      ['# keepalive_min_timeout 5s;', 'keepalive_timeout 0;']
    ]
    await writeFile(join(this.#directory, 'last-orders.conf'), changes.reduce((text, [from, to]) => replaceOnce(text, from, to), readFileSync(settings, 'utf8')))
    // Debian's settings outside /etc/nginx/conf.d, in this folder, and a route that shows that a reload has happened.
    await writeFile(join(this.#directory, 'nginx.conf'), `
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(kind => `${kind}_temp_path nginx-${kind};`).join('\n  ')}
  include last-orders.conf;
  server {
    listen 127.0.0.1:${generation};
    return 200 "${++this.#generation}";
  }
}
`)
  }
}

/** The text must occur exactly once: otherwise the tested settings would differ from the deployed ones. */
function replaceOnce (text: string, what: string, by: string): string {
  const parts = text.split(what)
  if (parts.length !== 2) throw new UserError(`${settings} has "${what}" ${parts.length - 1} times instead of once, so it cannot be tried. nginx was not started or reloaded.`)
  return parts.join(by)
}

async function answerOf (port: number): Promise<string | undefined> {
  return await new Promise(resolve => {
    get({ port, host: '127.0.0.1', agent: false }, response => { resolve(text(response)) }).on('error', () => resolve(undefined))
  })
}
