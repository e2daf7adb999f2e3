import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { chownSync, statSync } from 'node:fs'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError } from './error.ts'

/** The account that PostgreSQL's programs run as. They refuse to run as root, so root runs them as another account. */
export interface Account {
  /** The owner of Postgres' files; undefined: this process's own account. */
  owner: { uid: number, gid: number, name: string } | undefined
  /** Whether the programs reach their files only by a capability. Then their account need not be able to enter the folder. */
  privileged: boolean
  start (program: string, args: readonly string[], options: { stdio: StdioOptions, detached: boolean }): ChildProcess
  run (program: string, args: readonly string[]): Promise<Outcome>
}

/** PostgreSQL's programs, and the account that they run as. */
export interface Programs extends Binaries {
  account: Account
}

export interface Outcome {
  /** 0: success; null: a signal ended it, or it could not be started. */
  code: number | null
  /** Its stdout and stderr, or why it could not be started. */
  output: string
}

/** This process's own account, for an ordinary user. */
export function ownAccount (): Account {
  return account({ owner: undefined, prefix: [] })
}

/**
 * The account that runs Postgres with these data. Gives it the folder.
 *
 * @throws EmbeddedPostgresError 'no-account'
 */
export async function accountFor ({ directory, data }: { directory: string, data: string }, program: string): Promise<Account> {
  if (process.getuid?.() !== 0) return ownAccount()
  const plain = await accountForRoot(data)
  if (plain.owner !== undefined) chownSync(directory, plain.owner.uid, plain.owner.gid)
  return await accountThatReaches(plain, directory, program)
}

/**
 * The account for a process that is root: the owner of the data if they exist, else `postgres`, else `nobody`.
 *
 * @throws EmbeddedPostgresError 'no-account'
 */
async function accountForRoot (data: string): Promise<Account> {
  const owner = ownerOf(data) ?? await firstKnown(['postgres', 'nobody'])
  return account({ owner, prefix: [] })
}

/**
 * The same account, made able to reach the folder: it cannot enter a clone below /root, or in any folder that only root can
 * enter. There it keeps its own uid and gets one capability, CAP_DAC_OVERRIDE, so that the data can stay in the clone. Whoever
 * can connect to such a server can read every file, so the folder of its socket must belong to root.
 *
 * @throws EmbeddedPostgresError 'no-account'
 */
async function accountThatReaches (plain: Account, directory: string, program: string): Promise<Account> {
  if (plain.owner === undefined) return plain
  if (await reaches(plain, directory, program)) return plain

  const { uid, gid } = plain.owner
  const able = account({
    owner: plain.owner,
    // Without no_setuid_fixup the kernel ignores the capability in access(2), with which Postgres looks for its files.
    prefix: ['setpriv', '--securebits=+no_setuid_fixup', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups',
      '--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--']
  })
  if (await reaches(able, directory, program)) return able
  throw new EmbeddedPostgresError('no-account',
    `The embedded Postgres cannot run as root, and the account that it would run as, "${plain.owner.name}", cannot ` +
    `enter ${directory} or run ${program}. Postgres was not started. Move the clone to a folder that this account ` +
    'can enter, run as an ordinary user, or set DATABASE_URL to a Postgres of your own.')
}

async function reaches (account: Account, directory: string, program: string): Promise<boolean> {
  const { code } = await account.run('/bin/sh',
    ['-c', 'test -w "$1" && test -x "$1" && exec "$2" --version', 'sh', directory, program])
  return code === 0
}

function account ({ owner, prefix }: { owner: Account['owner'], prefix: readonly string[] }): Account {
  const privileged = prefix.length > 0

  function start (program: string, args: readonly string[], options: { stdio: StdioOptions, detached: boolean }) {
    const [file, ...rest] = [...prefix, program, ...args] as [string, ...string[]]
    return spawn(file, rest, {
      ...options,
      // The account may be unable to enter this process's folder, and a server would keep that folder in use.
      cwd: '/',
      env: environment(),
      ...(owner !== undefined && !privileged ? { uid: owner.uid, gid: owner.gid } : {})
    })
  }

  function run (program: string, args: readonly string[]): Promise<Outcome> {
    return new Promise(resolve => {
      const child = start(program, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: false })
      let output = ''
      const take = (chunk: string) => { output += chunk }
      child.stdout?.setEncoding('utf8').on('data', take)
      child.stderr?.setEncoding('utf8').on('data', take)
      child.once('error', error => resolve({ code: null, output: error.message }))
      child.once('close', (code, signal) =>
        resolve({ code, output: signal === null ? output : `${output}ended by ${signal}\n` }))
    })
  }

  return { owner, privileged, start, run }
}

/** A minimal environment: PGPORT and its like would change the server, and it must not see the service's secrets. */
function environment (): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, LC_ALL: 'C' }
}

function ownerOf (data: string): Account['owner'] {
  const stat = statSync(data, { throwIfNoEntry: false })
  if (stat === undefined || stat.uid === 0) return undefined
  return { uid: stat.uid, gid: stat.gid, name: `uid ${stat.uid}` }
}

async function firstKnown (names: readonly string[]): Promise<NonNullable<Account['owner']>> {
  const own = ownAccount()
  for (const name of names) {
    const [uid, gid] = await Promise.all([own.run('id', ['-u', name]), own.run('id', ['-g', name])])
    if (uid.code === 0 && gid.code === 0) return { uid: Number(uid.output), gid: Number(gid.output), name }
  }
  throw new EmbeddedPostgresError('no-account',
    'The embedded Postgres cannot run as root, and this machine has neither an account "postgres" nor "nobody" to ' +
    'run it as. Postgres was not started. Run as an ordinary user, or set DATABASE_URL to a Postgres of your own.')
}
