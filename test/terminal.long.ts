import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { test } from 'tap'
import { startEmbeddedPostgres } from '../postgres/embedded.ts'
import { cloneOfRepository } from './clone.ts'
import { serviceWaitsForLock } from './faults.ts'

const run = promisify(execFile)
const tmuxIsThere = await run('tmux', ['-V']).then(() => true, () => false)

test('the embedded Postgres serves after Ctrl-C in a terminal until the last order has committed', { skip: !tmuxIsThere && 'needs tmux, a real terminal' }, async t => {
  const clone = cloneOfRepository(t)
  // This tmux has a server of its own, so that the user's other sessions are left alone.
  const tmux = async (...args: string[]): Promise<string> => (await run('tmux', ['-L', `last-orders-${process.pid}`, ...args])).stdout
  const screen = async (): Promise<string> => await tmux('capture-pane', '-p', '-J', '-S', '-200', '-t', 'service')
  const shows = async (pattern: RegExp): Promise<string> => {
    for (;;) {
      const found = pattern.exec(await screen())
      if (found !== null) return found[0]
    }
  }
  await tmux('new-session', '-d', '-s', 'service', '-x', '400', '-y', '100', '-c', clone,
    `PATH=${join(process.execPath, '..')}:$PATH PORT=0 OPS_PORT=0 npm start; echo "it ended with $?"; sleep 60`)
  t.teardown(() => tmux('kill-server'))

  const curl = await shows(/^curl .*'$/m)
  const postgres = await startEmbeddedPostgres({ directory: join(clone, '.data/postgres') })
  const holder = new pg.Client({ connectionString: postgres.url })
  await holder.connect()
  t.teardown(async () => {
    await holder.end()
    await postgres.release()
  })
  await holder.query('BEGIN; SELECT FROM products FOR UPDATE')
  const placed = run('sh', ['-c', curl])
  await serviceWaitsForLock(holder)

  // The terminal signals the whole process group, and npm repeats the signal.
  await tmux('send-keys', '-t', 'service', 'C-c')
  await shows(/closing/)
  await holder.query('ROLLBACK')
  t.match((await placed).stdout, /^HTTP\/1.1 201 /)
  t.equal(await shows(/it ended with \d+/), 'it ended with 0')
  const { rows } = await holder.query('SELECT count(*)::int AS orders FROM orders')
  t.same(rows, [{ orders: 1 }])
})
