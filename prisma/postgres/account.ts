import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { statSync } from 'node:fs'
import { EmbeddedPostgresError } from './error.ts'

/**
 * As whom PostgreSQL's programs run. They refuse to run as root, so root runs them as another account.
 */
export interface Account {
  /** The owner of what Postgres writes; undefined: this process's own account. */
  owner: { uid: number, gid: number, name: string } | undefined
  /** True where the programs reach files only by a capability, so that their own account need not enter the folder. */
  privileged: boolean
  start (program: string, args: readonly string[], options: { stdio: StdioOptions, detached: boolean }): ChildProcess
  run (program: string, args: readonly string[]): Promise<Outcome>
}

export interface Outcome {
  /** 0 where it went well; null where a signal ended it or it could not be started. */
  code: number | null
  /** What it wrote, both streams, or why it could not be started. */
  output: string
}

/** This process's own account; what an ordinary user needs. */
export function ownAccount (): Account {
  return account({ owner: undefined, prefix: [] })
}

/**
 * The account for a process that is root: the owner of the data where there are some, else `postgres`, else `nobody`.
 *
 * @throws EmbeddedPostgresError 'no-account'
 */
export async function accountForRoot (data: string): Promise<Account> {
  const owner = ownerOf(data) ?? await firstKnown(['postgres', 'nobody'])
  return account({ owner, prefix: [] })
}

/**
 * The same account, made able to reach what it must: a clone below /root, or in any folder only root can enter, is
 * closed to it. There it keeps its own uid and gets one capability, CAP_DAC_OVERRIDE, so that the data stay where
 * they belong. Whoever reaches such a server reaches every file: its socket's folder must be root's own.
 *
 * @throws EmbeddedPostgresError 'no-account'
 */
export async function accountThatReaches (plain: Account, directory: string, program: string): Promise<Account> {
  if (plain.owner === undefined) return plain
  if (await reaches(plain, directory, program)) return plain

  const { uid, gid } = plain.owner
  const able = account({
    owner: plain.owner,
    // Without no_setuid_fixup the kernel disregards the capability in access(2), by which Postgres looks for its parts.
    prefix: ['setpriv', '--securebits=+no_setuid_fixup', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups',
      '--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--']
  })
  if (await reaches(able, directory, program)) return able
  throw new EmbeddedPostgresError('no-account',
    `The embedded Postgres cannot run as root, and the account "${plain.owner.name}" that it would run as cannot ` +
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
      // The account may be unable to enter this process's folder, and a server must not pin it.
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

/** No more than is needed: PGPORT and its kind would change the server, and the service's secrets are not its business. */
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
