import { connect } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Balancer, BalancerOptions } from '../balancer.ts'
import { freePort } from '../free-port.ts'
import type { Time } from '../history.ts'
import { Program } from '../program.ts'

const settings = join(import.meta.dirname, '../../deploy/haproxy/haproxy.cfg')

/** HAProxy learns of a stop from the instance itself: by its agent check, or by its readiness. */
export class HAProxy implements Balancer {
  readonly url: string
  readonly #program: Program
  readonly #statsPort: number

  private constructor (program: Program, ports: { front: number, stats: number }) {
    this.#program = program
    this.url = `http://127.0.0.1:${ports.front}`
    this.#statsPort = ports.stats
  }

  /** @param env further environment variables that the settings use */
  static async start (mode: 'http' | 'tcp', { instances, readiness, directory }: BalancerOptions, env: Record<string, string> = {}): Promise<HAProxy> {
    const ports = { front: await freePort(), stats: await freePort() }
    const addresses = instances.flatMap(({ port, agentPort }, index) => [
      [`API_${index + 1}`, `127.0.0.1:${port}`],
      [`AGENT_PORT_${index + 1}`, String(agentPort)]
    ])
    const program = await Program.start({
      command: 'haproxy',
      args: ['-db', '-f', settings],
      env: {
        MODE: mode,
        RETRIES: '0',
        BIND: `127.0.0.1:${ports.front}`,
        STATS_SOCKET: `127.0.0.1:${ports.stats}`,
        READINESS: readiness,
        ...Object.fromEntries(addresses),
        ...env
      },
      log: join(directory, 'haproxy.log')
    })
    return new HAProxy(program, ports)
  }

  async takeOut (): Promise<void> {}

  async allUp (): Promise<Time> {
    return await this.#program.until('route to every instance', async () => {
      const servers = await this.servers()
      return servers.length > 0 && servers.every(({ status }) => status.startsWith('UP'))
    })
  }

  /** The instances by its stats socket: UP, DRAIN, DOWN …, and the effective weight. Empty if it does not answer. */
  async servers (): Promise<Array<{ status: string, weight: number }>> {
    const socket = connect(this.#statsPort, '127.0.0.1').end('show stat orders 4 -1\n')
    const answer = await text(socket).catch(() => '')
    // '# pxname,svname,…', then a line for each
    const [head = '', ...lines] = answer.trim().split('\n').map(line => line.split(','))
    return lines.map(line => ({ status: line[head.indexOf('status')] ?? '', weight: Number(line[head.indexOf('weight')]) }))
  }

  async close (): Promise<void> {
    await this.#program.close()
  }
}
