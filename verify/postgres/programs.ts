import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process'
import { chown, cp } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** PostgreSQL's programs, and the account that they run as. */
export interface Programs {
  readonly initdb: string
  readonly postgres: string
  /** They refuse to run as root. For root, this is another account, which must own the data. Undefined: this process's own. */
  readonly owner: Owner | undefined
}

interface Owner {
  readonly uid: number
  readonly gid: number
}

/**
 * Gives `directory` to the account of the programs. Copies the programs into it if that account cannot reach them, as in a
 * clone below /root.
 */
export async function preparePrograms (binaries: { initdb: string, postgres: string }, directory: string): Promise<Programs> {
  const owner = process.getuid?.() === 0 ? await firstKnown(['postgres', 'nobody']) : undefined
  if (owner === undefined) return { ...binaries, owner }
  await chown(directory, owner.uid, owner.gid)
  if ((await run(binaries.postgres, ['--version'], owner)).code === 0) return { ...binaries, owner }

  // Postgres finds its libraries and its share folder relative to itself, so the whole installation is copied.
  const installation = dirname(dirname(binaries.postgres))
  const copy = join(directory, 'installation')
  await cp(installation, copy, { recursive: true, verbatimSymlinks: true })
  const moved = (program: string): string => join(copy, relative(installation, program))
  return { initdb: moved(binaries.initdb), postgres: moved(binaries.postgres), owner }
}

export function start (program: string, args: readonly string[], owner: Owner | undefined, stdio: StdioOptions): ChildProcess {
  return spawn(program, args, {
    ...owner,
    stdio,
    // The account may be unable to enter this process's folder.
    cwd: '/',
    // PGPORT and similar variables would change the programs. The message that `start` looks for is English.
    env: { PATH: process.env.PATH, LC_ALL: 'C' },
    // The harness handles a Ctrl-C in the terminal.
    detached: true
  })
}

/** @returns the exit code (null if it could not be started or a signal ended it) and the output */
export async function run (program: string, args: readonly string[], owner?: Owner): Promise<{ code: number | null, output: string }> {
  return await new Promise(resolve => {
    const child = start(program, args, owner, ['ignore', 'pipe', 'pipe'])
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', (chunk: string) => { output += chunk })
    child.once('error', error => resolve({ code: null, output: error.message }))
    child.once('close', code => resolve({ code, output }))
  })
}

async function firstKnown (names: readonly string[]): Promise<Owner> {
  for (const name of names) {
    const [uid, gid] = [await run('id', ['-u', name]), await run('id', ['-g', name])]
    if (uid.code === 0 && gid.code === 0) return { uid: Number(uid.output), gid: Number(gid.output) }
  }
  throw new Error('Postgres refuses to run as root, and there is neither an account "postgres" nor "nobody" to run it as. No database was made. Run this as an ordinary user.')
}
