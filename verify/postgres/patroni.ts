import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import { UserError } from '../../user-error.ts'
import { missing, Program } from '../program.ts'
import { freePort } from '../free-port.ts'
import { Proxy } from '../proxy.ts'
import type { PostgresNeeded } from '../target.ts'
import { debianPostgres } from './debian.ts'
import { accountFor, type Account } from '../../postgres/account.ts'
import { durability, postmasterOf } from '../../postgres/postmaster.ts'
import { signalServer } from './server.ts'
import { withClient } from '../../postgres/with-client.ts'

const haproxySettings = join(import.meta.dirname, '../../deploy/haproxy/postgres.cfg')

/** Three, as in deploy/haproxy/postgres.cfg, so that the synchronous standby is not the only node that could be promoted. */
const names = ['postgres-1', 'postgres-2', 'postgres-3'] as const
/** s, the least that Patroni's manual allows: the time after which a lost leader is replaced. */
const timing = { ttl: 20, loop_wait: 1, retry_timeout: 3 }
const waitLimitMs = 180_000
/** How long a node may take to come back by itself. */
const patienceMs = 60_000
const pollMs = 100

interface Options {
  readonly postgres: PostgresNeeded
  /** The folder for its logs. */
  readonly directory: string
}

/** Why Patroni cannot run on this machine; undefined if it can. */
export function patroniMissing (): string | undefined {
  const lacking = [
    ...['patroni', 'etcd', 'haproxy'].filter(command => missing(command, command === 'haproxy' ? '-v' : '--version') !== undefined),
    ...spawnSync('/usr/bin/python3', ['-c', 'import etcd, psycopg2']).status === 0 ? [] : ["Python's etcd and psycopg2"],
    ...debianPostgres() === undefined ? ["Debian's PostgreSQL"] : []
  ]
  return lacking.length === 0
    ? undefined
    : `Missing here: ${lacking.join(', ')}. Install them: apt-get install -y patroni etcd-server python3-etcd python3-psycopg2 postgresql haproxy (Debian). None of them need run as a service of the system.`
}

/**
 * A Postgres that a failover manager runs: three Patroni nodes in synchronous mode, one etcd that holds their lock, and
 * deploy/haproxy/postgres.cfg in front, which leads to the node that Patroni calls the primary. It ends with the harness.
 */
export class PatroniCluster {
  readonly database = 'orders'
  readonly nodes: readonly PatroniNode[]
  readonly #parts: readonly Program[]
  readonly #directory: string
  readonly #password: string
  readonly #frontPort: number
  readonly #endWithHarness = (): void => {
    for (const node of this.nodes) node.killNow()
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 })
  }

  #leader: PatroniNode

  private constructor (
    made: { nodes: readonly PatroniNode[], parts: readonly Program[], directory: string, password: string, frontPort: number },
    first: PatroniNode
  ) {
    this.nodes = made.nodes
    this.#parts = made.parts
    this.#directory = made.directory
    this.#password = made.password
    this.#frontPort = made.frontPort
    this.#leader = first
    process.on('exit', this.#endWithHarness)
  }

  /** Makes a new, complete cluster. */
  static async create ({ postgres, directory: logs }: Options): Promise<PatroniCluster> {
    const bin = debianPostgres()
    if (bin === undefined) throw new UserError(patroniMissing())
    const directory = await mkdtemp(join(tmpdir(), 'last-orders-verify-'))
    const parts: Program[] = []
    const nodes: PatroniNode[] = []
    let cluster: PatroniCluster | undefined
    try {
      const { owner } = await accountFor({ directory, data: directory }, join(bin, 'postgres'))
      const password = randomBytes(16).toString('hex')
      const etcdPort = await freePort()
      parts.push(await startEtcd({ port: etcdPort, directory, owner, logs }))
      for (const name of names) {
        nodes.push(await PatroniNode.create({
          name,
          bin,
          directory,
          logs,
          owner,
          password,
          etcdPort,
          settings: postgres.settings ?? {}
        }))
      }
      const [first] = nodes
      if (first === undefined) throw new RangeError('There is no node.')
      const frontPort = await freePort()
      parts.push(await startHAProxy({ port: frontPort, nodes, logs }))
      cluster = new PatroniCluster({ nodes, parts, directory, password, frontPort }, first)
      for (const node of nodes) await node.start()
      await cluster.anotherLeads(undefined)
      await withClient(cluster.leader.url('postgres', password), async client => { await client.query('CREATE DATABASE orders') })
      await cluster.whole()
      return cluster
    } catch (error) {
      if (cluster === undefined) {
        for (const part of [...nodes, ...parts]) await part.close()
        await rm(directory, { recursive: true, force: true, maxRetries: 5 })
      } else {
        await cluster.close()
      }
      throw error
    }
  }

  /** The node that held the lock at the last check. */
  get leader (): PatroniNode {
    return this.#leader
  }

  /** The URL of its database, directly at the leader. */
  get url (): string {
    return this.#leader.url(this.database, this.#password)
  }

  /** The URL of its database, through HAProxy. */
  get proxiedUrl (): string {
    return urlOf(this.#frontPort, this.database, this.#password)
  }

  /** Resolves with the leader as soon as it is another node than this one. */
  async anotherLeads (old: PatroniNode | undefined): Promise<PatroniNode> {
    await waitUntil('another node led', async () => {
      for (const node of this.nodes) {
        if (node === old || !await node.leads()) continue
        this.#leader = node
        return true
      }
      return false
    })
    return this.#leader
  }

  /**
   * Resolves when one node leads, the others follow, one of them synchronously, and HAProxy leads to the leader alone. A node that
   * does not come back by itself, for example after an interrupted rewind, is rebuilt, as an operator would do.
   */
  async whole (): Promise<void> {
    const renewAt = performance.now() + patienceMs
    let renewed = false
    /** The log position of the present leader when it was first seen, which the followers must reach. */
    let due: { leader: PatroniNode, lsn: string } | undefined
    await waitUntil('every node was back and one of them a synchronous standby', async () => {
      const leaders = await filter(this.nodes, async node => await node.leads())
      const [leader] = leaders
      if (leader === undefined || leaders.length > 1) return false
      this.#leader = leader
      if (due?.leader !== leader) {
        const lsn = await leader.written(this.#password)
        due = lsn === undefined ? undefined : { leader, lsn }
      }
      const followers = due === undefined ? [] : await leader.followers(this.#password, due.lsn)
      const astray = this.nodes.filter(node => node !== leader && !followers.includes(node.name))
      if (astray.length > 0 && !renewed && performance.now() > renewAt) {
        renewed = true
        for (const node of astray) await node.ask('POST', '/reinitialize', { force: true })
      }
      return astray.length === 0 && await leader.hasSynchronous() && await this.#leadsOnlyTo(leader)
    })
  }

  /** Resolves when a session through HAProxy reaches the leader. */
  async isReached (): Promise<void> {
    await waitUntil('HAProxy led to the leader', async () => await this.#reached() === this.#leader.port)
  }

  /** @throws Error with Patroni's message */
  async switchOver (): Promise<void> {
    const answer = await this.#leader.ask('POST', '/switchover', { leader: this.#leader.name })
    if (answer?.status !== 200) throw new UserError(`Patroni did not switch over, and ${this.#leader.name} leads on: ${answer?.body ?? 'no answer'}`)
  }

  /** Ends and removes the whole cluster. */
  async close (): Promise<void> {
    for (const node of this.nodes) await node.close()
    for (const part of this.#parts) await part.close()
    process.off('exit', this.#endWithHarness)
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 })
  }

  /** HAProxy gives each server that it considers up a connection in turn. */
  async #leadsOnlyTo ({ port }: PatroniNode): Promise<boolean> {
    for (let times = 0; times < 2 * this.nodes.length; times++) {
      if (await this.#reached() !== port) return false
    }
    return true
  }

  /** The port of the server that answers behind HAProxy; undefined if none does. */
  async #reached (): Promise<number | undefined> {
    return await withClient(this.proxiedUrl, async client => (await client.query<{ port: number }>('SELECT inet_server_port() AS port')).rows[0]?.port).catch(() => undefined)
  }
}

interface NodeOptions {
  readonly name: string
  readonly bin: string
  readonly directory: string
  readonly logs: string
  readonly owner: Account['owner']
  readonly password: string
  readonly etcdPort: number
  readonly settings: Readonly<Record<string, string>>
}

/** One server with its Patroni. It reaches the other nodes and etcd by links, which can be cut; clients reach it directly. */
export class PatroniNode {
  readonly name: string
  /** The port of its Postgres. */
  readonly port: number
  /** The port of Patroni's REST API. */
  readonly restPort: number
  readonly #options: NodeOptions
  readonly #data: string
  readonly #settings: string
  readonly #links: readonly Proxy[]
  #patroni: Program | undefined

  private constructor (options: NodeOptions, ports: { postgres: number, rest: number }, settings: string, links: readonly Proxy[]) {
    this.name = options.name
    this.port = ports.postgres
    this.restPort = ports.rest
    this.#options = options
    this.#data = join(options.directory, options.name)
    this.#settings = settings
    this.#links = links
  }

  /** Makes a node without starting it. */
  static async create (options: NodeOptions): Promise<PatroniNode> {
    const { name, directory, owner } = options
    const ports = { postgres: await freePort(), rest: await freePort() }
    const links = { etcd: await Proxy.listen(options.etcdPort), postgres: await Proxy.listen(ports.postgres), rest: await Proxy.listen(ports.rest) }
    const file = join(directory, `${name}.json`)
    // JSON is YAML.
    await writeFile(file, JSON.stringify(settingsOf(options, ports, links), undefined, 2), { mode: 0o600 })
    if (owner !== undefined) await chown(file, owner.uid, owner.gid)
    return new PatroniNode(options, ports, file, Object.values(links))
  }

  url (database: string, password: string): string {
    return urlOf(this.port, database, password)
  }

  async start (): Promise<void> {
    const { owner, logs, name } = this.#options
    this.#patroni = await Program.start({ command: 'patroni', args: [this.#settings], ...owner && { owner }, log: join(logs, `${name}.log`) })
  }

  /** Whether it says that it holds the lock. */
  async leads (): Promise<boolean> {
    return (await this.ask('GET', '/primary'))?.status === 200
  }

  /** For a leader: the position up to which it has written; undefined if it does not answer. */
  async written (password: string): Promise<string | undefined> {
    const [here] = await this.#query<{ lsn: string }>(password, 'SELECT pg_current_wal_lsn()::text AS lsn')
    return here?.lsn
  }

  /** For a leader: the nodes on its timeline that have replayed up to that position. */
  async followers (password: string, lsn: string): Promise<string[]> {
    const members = await this.#members()
    const timeline = members.find(({ name }) => name === this.name)?.timeline
    const onTimeline = members.filter(member => member.timeline === timeline).map(({ name }) => name)
    const streaming = await this.#query<{ name: string }>(password, "SELECT application_name AS name FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn >= $1::pg_lsn", [lsn])
    return streaming.map(({ name }) => name).filter(name => onTimeline.includes(name))
  }

  async hasSynchronous (): Promise<boolean> {
    return (await this.#members()).some(({ role }) => role === 'sync_standby')
  }

  /** undefined if it gave no answer. */
  async ask (method: 'GET' | 'POST', path: string, body?: unknown): Promise<{ status: number, body: string } | undefined> {
    // Patroni answers a switchover when it is done.
    const signal = AbortSignal.timeout(method === 'GET' ? 1_000 : 60_000)
    try {
      const response = await fetch(`http://127.0.0.1:${this.restPort}${path}`, { method, signal, ...body !== undefined && { body: JSON.stringify(body) } })
      return { status: response.status, body: await response.text() }
    } catch {
      return undefined
    }
  }

  /** Sends SIGKILL to Patroni and to every process of its Postgres. */
  async kill (): Promise<void> {
    this.killNow()
    await this.#patroni?.close()
  }

  /** The same without waiting, for an exit handler. */
  killNow (): void {
    // Patroni first: it would restart its Postgres.
    this.#patroni?.signal('SIGKILL')
    this.#signalPostgres('SIGKILL')
  }

  /** Pauses Patroni; its Postgres does not notice. */
  pauseManager (): void {
    this.#patroni?.signal('SIGSTOP')
  }

  /** Pauses Patroni and its Postgres. */
  pause (): void {
    this.pauseManager()
    this.#signalPostgres('SIGSTOP')
  }

  /** Resumes the paused processes, which do not know that time has passed. */
  wake (): void {
    this.#signalPostgres('SIGCONT')
    this.#patroni?.signal('SIGCONT')
  }

  /** Cuts the links to the other nodes and etcd; its clients stay connected. */
  cutOff (): void {
    for (const link of this.#links) link.pass('blackhole')
  }

  rejoin (): void {
    for (const link of this.#links) link.pass('forward')
  }

  async close (): Promise<void> {
    await this.kill()
    for (const link of this.#links) await link.close()
  }

  /** No rows if it does not answer. */
  async #query<Row extends pg.QueryResultRow> (password: string, text: string, values: unknown[] = []): Promise<Row[]> {
    return await withClient(this.url('postgres', password), async client => (await client.query<Row>(text, values)).rows).catch(() => [])
  }

  /** The standbys that it knows. */
  async #members (): Promise<Array<{ name: string, role: string, timeline?: number }>> {
    const answer = await this.ask('GET', '/cluster')
    return answer?.status === 200 ? (JSON.parse(answer.body) as { members: Array<{ name: string, role: string, timeline?: number }> }).members : []
  }

  #signalPostgres (signal: NodeJS.Signals): void {
    const pid = postmasterOf(this.#data)
    if (pid !== undefined) signalServer(pid, signal)
  }
}

function settingsOf ({ name, bin, directory, password, settings }: NodeOptions, ports: { postgres: number, rest: number }, links: Record<'etcd' | 'postgres' | 'rest', Proxy>): unknown {
  return {
    scope: 'last-orders',
    name,
    restapi: { listen: `127.0.0.1:${ports.rest}`, connect_address: `127.0.0.1:${links.rest.port}` },
    // Not etcd3: before 3.0.3 a paused leader that wakes after its lease takes the lock from its successor (patroni#2689).
    // use_proxies: otherwise it asks etcd for its address, and connects there past the link.
    etcd: { hosts: [`127.0.0.1:${links.etcd.port}`], use_proxies: true },
    bootstrap: {
      dcs: { ...timing, synchronous_mode: true, postgresql: { use_pg_rewind: true, use_slots: true, parameters: {} } },
      initdb: [{ encoding: 'UTF8' }, { locale: 'C' }, 'no-sync']
    },
    postgresql: {
      listen: `127.0.0.1:${ports.postgres}`,
      connect_address: `127.0.0.1:${links.postgres.port}`,
      data_dir: join(directory, name),
      bin_dir: bin,
      pgpass: join(directory, `${name}.pgpass`),
      authentication: { superuser: { username: 'postgres', password }, replication: { username: 'replicator', password } },
      pg_hba: ['host all all 127.0.0.1/32 scram-sha-256', 'host replication replicator 127.0.0.1/32 scram-sha-256'],
      basebackup: [{ checkpoint: 'fast' }],
      // As in server.ts, which gives the reasons.
      parameters: { unix_socket_directories: '', ...durability, wal_keep_size: '256MB', wal_retrieve_retry_interval: '200ms', timezone: 'Asia/Kathmandu', log_timezone: 'UTC', ...settings },
      remove_data_directory_on_rewind_failure: true,
      remove_data_directory_on_diverged_timelines: true
    }
  }
}

async function startEtcd ({ port, directory, owner, logs }: { port: number, directory: string, owner: Account['owner'], logs: string }): Promise<Program> {
  const peer = `http://127.0.0.1:${await freePort()}`
  const client = `http://127.0.0.1:${port}`
  const etcd = await Program.start({
    command: 'etcd',
    args: [
      '--enable-v2', '--name', 'etcd', '--data-dir', join(directory, 'etcd'), '--listen-client-urls', client, '--advertise-client-urls', client,
      '--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `etcd=${peer}`
    ],
    ...owner && { owner },
    log: join(logs, 'etcd.log')
  })
  await etcd.until('become healthy', async () => await fetch(`${client}/health`).then(async response => (await response.text()).includes('"true"'), () => false))
  return etcd
}

async function startHAProxy ({ port, nodes, logs }: { port: number, nodes: readonly PatroniNode[], logs: string }): Promise<Program> {
  const servers = nodes.flatMap((node, index) => [[`POSTGRES_${index + 1}`, `127.0.0.1:${node.port}`], [`PATRONI_${index + 1}`, String(node.restPort)]])
  return await Program.start({
    command: 'haproxy',
    args: ['-db', '-f', haproxySettings],
    env: { BIND: `127.0.0.1:${port}`, STATS_SOCKET: `127.0.0.1:${await freePort()}`, ...Object.fromEntries(servers) },
    log: join(logs, 'haproxy-postgres.log')
  })
}

function urlOf (port: number, database: string, password: string): string {
  return `postgresql://postgres:${password}@127.0.0.1:${port}/${database}`
}

async function filter<T> (things: readonly T[], isSo: (thing: T) => Promise<boolean>): Promise<T[]> {
  const answers = await Promise.all(things.map(isSo))
  return things.filter((_, i) => answers[i])
}

async function waitUntil (what: string, isSo: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + waitLimitMs
  while (!await isSo()) {
    if (performance.now() > until) throw new UserError(`It took Patroni more than ${waitLimitMs / 1_000} s until ${what}; the harness gave up. See the logs of its nodes.`)
    await delay(pollMs)
  }
}
