import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { accountFor, type Programs } from '../../postgres/account.ts'
import { findBinaries } from '../../postgres/binaries.ts'
import { createDataFolder } from '../../postgres/data-folder.ts'
import { signalProcess } from '../../postgres/postmaster.ts'
import { UserError } from '../../user-error.ts'
import { freePort } from '../free-port.ts'
import type { PostgresNeeded } from '../target.ts'
import { baseBackup } from './base-backup.ts'
import { dumpInto } from './dump.ts'
import { PostgresServer } from './server.ts'
import { Volume } from './volume.ts'

interface Options {
  /** Default: the programs that npm installed. */
  readonly postgres?: Partial<PostgresNeeded>
  /** The output of Postgres is appended to this file. */
  readonly log: string
  /** Gives each server a disk of its own, which can be filled. */
  readonly volumes?: boolean
}

const standbyName = 'standby'
const waitLimitMs = 60_000
/** Such a disk is in memory. */
const ofVolume = { max_wal_size: '256MB', wal_keep_size: '256MB' }
const pollMs = 20

/**
 * The harness's own Postgres: a primary and, after `addStandby`, its synchronous standby. It is in the system's temporary
 * folder, which the account of Postgres can always enter, wherever the folder of the run is. It ends with the harness.
 */
export class Cluster {
  /** The name of its database, which is empty at first. */
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
  /** The old primary that was paused when its standby was promoted, and still takes itself for the primary. */
  #deposed: PostgresServer | undefined

  private constructor (options: Options, directory: string, programs: Programs) {
    this.#options = options
    this.#directory = directory
    this.#programs = programs
    process.on('exit', this.#endWithHarness)
  }

  /** Makes and starts a new cluster. */
  static async create (options: Options): Promise<Cluster> {
    const directory = await mkdtemp(join(tmpdir(), 'last-orders-verify-'))
    let cluster: Cluster | undefined
    try {
      const { binaries = findBinaries } = options.postgres ?? {}
      const found = binaries()
      const account = await accountFor({ directory, data: directory }, found.postgres)
      cluster = new Cluster(options, directory, { ...found, account })
      cluster.#primary = await cluster.#newServer()
      await cluster.#initialise()
      return cluster
    } catch (error) {
      await cluster?.close()
      await rm(directory, { recursive: true, force: true })
      throw error
    }
  }

  /** The server that takes writes. After a failover it is another one. */
  get primary (): PostgresServer {
    return this.#primary
  }

  /** Set after `addStandby`, until it is promoted. */
  get standby (): PostgresServer | undefined {
    return this.#standby
  }

  /** The URL of its database, directly at the primary. After a failover it is another one. */
  get url (): string {
    return this.urlAt(this.#primary.port)
  }

  /** The URL of its database for clients that reach the primary at another port of 127.0.0.1: that of a proxy. */
  urlAt (port: number): string {
    return this.#primary.url(this.database, port)
  }

  /** Ends the primary at once: in immediate mode, or all its processes by SIGKILL. */
  async crash (how: 'immediate' | 'kill'): Promise<void> {
    await (how === 'kill' ? this.#primary.kill() : this.#primary.stop('immediate'))
  }

  /** Starts the crashed primary; resolves when it takes writes. */
  async recover (): Promise<void> {
    await this.#primary.start()
    if (this.#standby !== undefined) await this.#isSynchronous()
  }

  /** Fills the disk of the primary. */
  async fillDisk (): Promise<void> {
    await this.#diskOf(this.#primary).fill()
  }

  /** Makes room again. Resolves when the primary takes writes; starts it if it had ended. */
  async freeDisk (): Promise<void> {
    await this.#diskOf(this.#primary).free()
    await waitUntil('the primary took writes again', async () => {
      if (!this.#primary.isRunning) await this.#primary.start()
      // Only a commit shows that.
      return await this.#primary.query('CREATE TEMPORARY TABLE room (); SELECT txid_current()').then(() => true, () => false)
    })
  }

  /** Makes its database read-only, and ends every session that may write. */
  async closeForWrites (): Promise<void> {
    await this.#primary.query(`ALTER DATABASE "${this.database}" SET default_transaction_read_only = on`)
    const [since] = await this.#primary.query<{ at: Date }>('SELECT clock_timestamp() AS at')
    await waitUntil('every session that could write had ended', async () => (await this.#primary.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND backend_start <= $2', [this.database, since?.at])).length === 0)
  }

  /** Makes another primary from a dump of this one. The old one goes on until `retire` is called. */
  async move (): Promise<void> {
    const old = this.#primary
    this.#deposed = old
    this.#primary = await this.#newServer()
    await this.#initialise()
    await dumpInto(dirname(this.#programs.postgres), old.url(this.database), this.url)
  }

  /** Makes a standby of the running primary. After it resolves, every commit waits until both have it on disk. */
  async addStandby (): Promise<void> {
    const standby = await this.#newServer()
    await baseBackup(this.#primary, standby.data, this.#programs.account.owner)
    await writeFile(join(standby.data, 'standby.signal'), '')
    await standby.configure({
      primary_conninfo: `host=127.0.0.1 port=${this.#primary.port} user=postgres password=${this.#password} application_name=${standbyName}`
    })
    this.#standby = standby
    await standby.start()
    await this.#primary.configure({ synchronous_standby_names: standbyName })
    await waitUntil('the primary had read its settings', async () =>
      (await this.#primary.query<{ value: string }>("SELECT current_setting('synchronous_standby_names') AS value"))[0]?.value === standbyName)
    // Commits wait once the checkpointer has read the settings, which it does before it serves a checkpoint.
    await this.#primary.query('CHECKPOINT')
    await this.#isSynchronous()
  }

  /** From now on the standby gets nothing until the primary is killed, and falls behind like a distant one. */
  async holdBackStandby (): Promise<void> {
    for (const { pid } of await this.#primary.query<{ pid: number }>('SELECT pid FROM pg_stat_replication')) signalProcess(pid, 'SIGSTOP')
  }

  /**
   * Kills the primary and promotes the standby; resolves when that takes writes. It then runs alone, and commits do not wait
   * for a standby until `addStandby` is called again.
   */
  async failOver (): Promise<void> {
    const old = this.#primary
    await this.#promote(async () => await old.kill())
    // Writes that the standby does not have were never acknowledged.
    await this.#remove(old)
  }

  /**
   * The same, but the old primary is only paused: when it wakes, it still takes itself for the primary, until `retire` is called.
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

  /** Kills and removes the old primary. */
  async retire (): Promise<void> {
    const old = this.#deposed
    if (old === undefined) return
    await old.kill()
    await this.#remove(old)
    this.#deposed = undefined
  }

  /** Ends and removes the whole cluster. */
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
    const { log, postgres: { settings = {} } = {}, volumes = false } = this.#options
    const folder = join(this.#directory, `server-${this.#servers++}`)
    const volume = volumes ? await Volume.mount(folder, this.#programs.account.owner) : undefined
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
    // No sync: it matters only if the machine crashes. A password, because other users of this machine could otherwise run programs as the database's account.
    const passwordFile = join(this.#directory, 'password')
    await writeFile(passwordFile, this.#password)
    try {
      await createDataFolder(this.#programs, this.#primary.data, [`--pwfile=${passwordFile}`, '--auth=scram-sha-256', '--no-sync'])
    } catch (cause) {
      throw new UserError(`A database could not be made in ${this.#directory}:\n${(cause as Error).message}\nNothing was started. Is the disk full, or TMPDIR a folder that the account of Postgres cannot enter?`, { cause })
    }
    await this.#primary.start()
    await this.#primary.query(`CREATE DATABASE "${this.database}"`)
  }
}

async function waitUntil (what: string, isTrue: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + waitLimitMs
  while (!await isTrue()) {
    if (performance.now() > until) throw new UserError(`It took Postgres more than ${waitLimitMs / 1_000} s until ${what}; the harness gave up. See its log.`)
    await delay(pollMs)
  }
}
