import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../free-port.ts'
import type { PostgresNeeded } from '../target.ts'
import { baseBackup } from './base-backup.ts'
import { dumpInto } from './dump.ts'
import { preparePrograms, run, type Programs } from './programs.ts'
import { PostgresServer, signalProcess } from './server.ts'
import { Volume } from './volume.ts'

interface Options {
  readonly postgres: PostgresNeeded
  /** What Postgres prints is appended to it. */
  readonly log: string
  /** Each server has a disk of its own, which can be full. */
  readonly volumes?: boolean
}

const standbyName = 'standby'
const waitLimitMs = 60_000
/** What stands on such a disk stands in memory. */
const ofVolume = { max_wal_size: '256MB', wal_keep_size: '256MB' }
const pollMs = 20

/**
 * A Postgres of the harness's own: a primary and, where `addStandby` was called, its synchronous standby. It lives in the
 * system's temporary folder, which the account of Postgres can enter wherever the run's own folder is, and dies with the
 * harness.
 */
export class Cluster {
  /** The name of the one that it holds, empty at first. */
  readonly database = 'orders'
  readonly #options: Options
  readonly #directory: string
  readonly #programs: Programs
  readonly #password = randomBytes(16).toString('hex')
  readonly #endWithHarness = (): void => {
    for (const server of this.#all()) server.killNow()
    for (const volume of this.#volumes.values()) volume.unmountNow()
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5 })
  }

  readonly #volumes = new Map<PostgresServer, Volume>()
  #servers = 0
  #primary!: PostgresServer
  #standby: PostgresServer | undefined
  /** It was paused when its standby was promoted, and takes itself for the primary still. */
  #deposed: PostgresServer | undefined

  private constructor (options: Options, directory: string, programs: Programs) {
    this.#options = options
    this.#directory = directory
    this.#programs = programs
    process.on('exit', this.#endWithHarness)
  }

  /** A new one, started. */
  static async create (options: Options): Promise<Cluster> {
    const directory = await mkdtemp(join(tmpdir(), 'last-orders-verify-'))
    let cluster: Cluster | undefined
    try {
      const programs = await preparePrograms(options.postgres.binaries(), directory)
      cluster = new Cluster(options, directory, programs)
      cluster.#primary = await cluster.#newServer()
      await cluster.#initialise()
      return cluster
    } catch (error) {
      await cluster?.close()
      await rm(directory, { recursive: true, force: true })
      throw error
    }
  }

  /** The server that takes writes; another one after a failover. */
  get primary (): PostgresServer {
    return this.#primary
  }

  /** Where `addStandby` was called, and none has been promoted since. */
  get standby (): PostgresServer | undefined {
    return this.#standby
  }

  /** Of its database, straight to the primary: another one after a failover. */
  get url (): string {
    return this.urlAt(this.#primary.port)
  }

  /** Of its database, for who reaches the primary at another port of 127.0.0.1: that of a proxy. */
  urlAt (port: number): string {
    return this.#primary.url(this.database, port)
  }

  /** The primary at once and without a word: in immediate mode, or all of its processes by SIGKILL. */
  async crash (how: 'immediate' | 'kill'): Promise<void> {
    await (how === 'kill' ? this.#primary.kill() : this.#primary.stop('immediate'))
  }

  /** Starts the primary that crashed; resolves when it takes writes. */
  async recover (): Promise<void> {
    await this.#primary.start()
    if (this.#standby !== undefined) await this.#isSynchronous()
  }

  /** The disk of the primary has no room left. */
  async fillDisk (): Promise<void> {
    await this.#diskOf(this.#primary).fill()
  }

  /** It has room again. Resolves when the primary takes writes: one that ended for it is started. */
  async freeDisk (): Promise<void> {
    await this.#diskOf(this.#primary).free()
    await waitUntil('the primary took writes again', async () => {
      if (!this.#primary.isRunning) await this.#primary.start()
      // Only a commit tells.
      return await this.#primary.query('CREATE TEMPORARY TABLE room (); SELECT txid_current()').then(() => true, () => false)
    })
  }

  /** Its database takes no writes any more, and no session is left that may write. */
  async closeForWrites (): Promise<void> {
    await this.#primary.query(`ALTER DATABASE "${this.database}" SET default_transaction_read_only = on`)
    const [since] = await this.#primary.query<{ at: Date }>('SELECT clock_timestamp() AS at')
    await waitUntil('every session that could write had ended', async () => (await this.#primary.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND backend_start <= $2', [this.database, since?.at])).length === 0)
  }

  /** Makes another primary of what a dump of this one holds; the old one goes on, until `retire` is called. */
  async move (): Promise<void> {
    const old = this.#primary
    this.#deposed = old
    this.#primary = await this.#newServer()
    await this.#initialise()
    await dumpInto(dirname(this.#programs.postgres), old.url(this.database), this.url)
  }

  /** Makes a standby of the running primary. From when it resolves on, a commit waits until both have it on disk. */
  async addStandby (): Promise<void> {
    const standby = await this.#newServer()
    await baseBackup(this.#primary, standby.data, this.#programs.owner)
    await writeFile(join(standby.data, 'standby.signal'), '')
    await standby.configure({
      primary_conninfo: `host=127.0.0.1 port=${this.#primary.port} user=postgres password=${this.#password} application_name=${standbyName}`
    })
    this.#standby = standby
    await standby.start()
    await this.#primary.configure({ synchronous_standby_names: standbyName })
    await waitUntil('the primary had read its settings', async () =>
      (await this.#primary.query<{ value: string }>("SELECT current_setting('synchronous_standby_names') AS value"))[0]?.value === standbyName)
    // It is the checkpointer that makes commits wait, once it has read the settings; it does so before it serves a checkpoint.
    await this.#primary.query('CHECKPOINT')
    await this.#isSynchronous()
  }

  /** From now on the standby gets nothing, until the primary is killed: it falls behind, as a distant one does. */
  async holdBackStandby (): Promise<void> {
    for (const { pid } of await this.#primary.query<{ pid: number }>('SELECT pid FROM pg_stat_replication')) signalProcess(pid, 'SIGSTOP')
  }

  /**
   * Kills the primary and promotes the standby; resolves when that takes writes. It then runs alone, and commits wait for
   * nobody, until `addStandby` is called again.
   */
  async failOver (): Promise<void> {
    const old = this.#primary
    await this.#promote(async () => await old.kill())
    // What it had and its standby had not, nobody was promised.
    await this.#remove(old)
  }

  /**
   * The same, but the old primary is paused: woken, it takes itself for the primary still. Until `retire` is called.
   *
   * @returns the old primary, paused
   */
  async depose (): Promise<PostgresServer> {
    const old = this.#primary
    await this.#promote(async () => {
      old.pause()
      this.#deposed = old
    })
    return old
  }

  /** Kills and removes the one that was deposed. */
  async retire (): Promise<void> {
    const old = this.#deposed
    if (old === undefined) return
    await old.kill()
    await this.#remove(old)
    this.#deposed = undefined
  }

  /** Ends and removes all of it. */
  async close (): Promise<void> {
    for (const server of this.#all()) await server.kill()
    process.off('exit', this.#endWithHarness)
    for (const volume of this.#volumes.values()) volume.unmountNow()
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 })
  }

  #all (): PostgresServer[] {
    return [this.#deposed, this.#standby, this.#primary].filter(server => server !== undefined)
  }

  async #promote (strikePrimary: () => Promise<void>): Promise<void> {
    const standby = this.#standby
    if (standby === undefined) throw new Error('There is no standby to promote; the primary was left alone. Call addStandby first.')
    await strikePrimary()
    await standby.query('SELECT pg_promote(true, $1)', [waitLimitMs / 1_000])
    await waitUntil('the standby took writes', async () =>
      (await standby.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby'))[0]?.standby === false)
    this.#primary = standby
    this.#standby = undefined
  }

  async #newServer (): Promise<PostgresServer> {
    const { log, postgres: { settings = {} }, volumes = false } = this.#options
    const folder = join(this.#directory, `server-${this.#servers++}`)
    const volume = volumes ? await Volume.mount(folder, this.#programs.owner) : undefined
    const data = volume === undefined ? folder : join(folder, 'data')
    const server = new PostgresServer({
      programs: this.#programs, data, port: await freePort(), password: this.#password, log, settings: { ...volume && ofVolume, ...settings }
    })
    if (volume !== undefined) this.#volumes.set(server, volume)
    return server
  }

  async #remove (server: PostgresServer): Promise<void> {
    const volume = this.#volumes.get(server)
    volume?.unmountNow()
    this.#volumes.delete(server)
    await rm(volume?.path ?? server.data, { recursive: true, force: true })
  }

  #diskOf (server: PostgresServer): Volume {
    const volume = this.#volumes.get(server)
    if (volume === undefined) throw new Error('The disk of this server cannot be full; nothing was struck. Make the cluster with `volumes`.')
    return volume
  }

  async #isSynchronous (): Promise<void> {
    await waitUntil('the standby was synchronous', async () =>
      (await this.#primary.query("SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'")).length > 0)
  }

  async #initialise (): Promise<void> {
    const { initdb, owner } = this.#programs
    // No sync: only a crash of the machine would tell. A database that others on this machine can enter would let them run programs as its account.
    const passwordFile = join(this.#directory, 'password')
    await writeFile(passwordFile, this.#password)
    const { code, output } = await run(initdb, [
      '-D', this.#primary.data, '-U', 'postgres', `--pwfile=${passwordFile}`, '--auth=scram-sha-256',
      '--encoding=UTF8', '--locale=C', '--no-sync'
    ], owner)
    if (code !== 0) throw new Error(`A database could not be made in ${this.#directory}:\n${output.trim()}\nNothing was started. Is the disk full, or TMPDIR a folder that the account of Postgres cannot enter?`)
    await this.#primary.start()
    await this.#primary.query(`CREATE DATABASE "${this.database}"`)
  }
}

async function waitUntil (what: string, isTrue: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + waitLimitMs
  while (!await isTrue()) {
    if (performance.now() > until) throw new Error(`It took Postgres more than ${waitLimitMs / 1_000} s until ${what}; the harness gave up. See its log.`)
    await delay(pollMs)
  }
}
