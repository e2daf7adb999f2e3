import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { UserError } from '../../user-error.ts'

/** Copies a database into an empty one: pg_dump | psql. @throws Error with their output */
export async function dumpInto (bin: string, from: string, to: string): Promise<void> {
  const dump = spawn(join(bin, 'pg_dump'), ['--dbname', from], { stdio: ['ignore', 'pipe', 'pipe'] })
  const restore = spawn(join(bin, 'psql'), ['--dbname', to, '--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1', '--output=/dev/null'], { stdio: ['pipe', 'ignore', 'pipe'] })
  const said = Promise.all([text(dump.stderr), text(restore.stderr)])
  const ended = Promise.all([once(dump, 'close'), once(restore, 'close')])
  // If psql fails, pg_dump fails to write: psql's message is the relevant one.
  await pipeline(dump.stdout, restore.stdin).catch(() => {})
  const [[dumped], [restored]] = await ended
  if (dumped !== 0 || restored !== 0) throw new UserError(`The dump was not restored (pg_dump ${dumped}, psql ${restored}):\n${(await said).join('').trim()}`)
}
