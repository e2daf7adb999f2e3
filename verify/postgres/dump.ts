import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

/** Everything of a database into another, empty one: pg_dump | psql. @throws Error with what they say */
export async function dumpInto (bin: string, from: string, to: string): Promise<void> {
  const dump = spawn(join(bin, 'pg_dump'), ['--dbname', from], { stdio: ['ignore', 'pipe', 'pipe'] })
  const restore = spawn(join(bin, 'psql'), ['--dbname', to, '--no-psqlrc', '--quiet', '--set=ON_ERROR_STOP=1', '--output=/dev/null'], { stdio: ['pipe', 'ignore', 'pipe'] })
  const said = Promise.all([text(dump.stderr), text(restore.stderr)])
  const ended = Promise.all([once(dump, 'close'), once(restore, 'close')])
  // Where psql gives up, pg_dump cannot write on: what psql says is what matters.
  await pipeline(dump.stdout, restore.stdin).catch(() => {})
  const [[dumped], [restored]] = await ended
  if (dumped !== 0 || restored !== 0) throw new Error(`The dump was not restored (pg_dump ${dumped}, psql ${restored}):\n${(await said).join('').trim()}`)
}
