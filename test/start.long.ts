import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { test } from 'tap'
import { cloneOfRepository } from './clone.ts'
import { createTestDatabase } from './postgres.ts'
import { spawnService, startService } from './service.ts'

const run = promisify(execFile)

test('a clone without settings starts a Postgres, and prints a command that places one order', async t => {
  const clone = cloneOfRepository(t)
  const first = spawnService(t, { PORT: '0', OPS_PORT: '0' }, clone)
  const curl = await first.line(/^curl /)
  t.match(first.lines.join('\n'), new RegExp(`kill -TERM ${first.child.pid}`), 'the pid is printed')

  const { stdout: answer } = await run('sh', ['-c', curl])
  t.match(answer, /^HTTP\/1.1 201 /)
  const { stdout: again } = await run('sh', ['-c', curl])
  t.match(again, /^HTTP\/1.1 201 /)
  t.match(again, /^idempotent-replayed: true\r$/m)
  const bodyOf = (response: string): string => response.slice(response.indexOf('\r\n\r\n') + 4)
  t.equal(bodyOf(again), bodyOf(answer))

  first.child.kill('SIGTERM')
  t.same(await first.exited, [0, null])

  const second = spawnService(t, { PORT: '0', OPS_PORT: '0' }, clone)
  const url = /http:\S+\/orders/.exec(await second.line(/^curl /))?.[0] ?? ''
  const authorization = /Bearer [^']+/.exec(curl)?.[0] ?? ''
  const { orders } = await (await fetch(url, { headers: { authorization } })).json() as { orders: Array<{ id: string }> }
  t.match(bodyOf(answer), orders[0]?.id, 'the second start keeps the data of the first, and accepts its tokens')
  t.equal(orders.length, 1)
  second.child.kill('SIGINT')
  t.same(await second.exited, [0, null])
})

test('a signal before the service listens stops it when the start is over', async t => {
  const clone = cloneOfRepository(t)
  const service = spawnService(t, { PORT: '0', OPS_PORT: '0' }, clone)
  await service.line(/creating a Postgres data folder/)
  service.child.kill('SIGTERM')
  t.same(await service.exited, [0, null], service.lines.join('\n'))
  t.notMatch(service.lines.join('\n'), /^curl/m)
  await t.rejects(run('pgrep', ['-f', clone]), { code: 1 }, 'nothing is left running')
})

test('a fault stops the start with one clear message, and leaves nothing running', async t => {
  const { url } = await createTestDatabase(t)
  const taken = createServer()
  taken.listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.teardown(() => taken.close())
  const { port } = taken.address() as { port: number }
  const secret = 'a secret for tests, of more than thirty-two bytes'
  const good = { PORT: '0', OPS_PORT: '0', DATABASE_URL: url, AUTH_JWT_SECRET: secret }
  const unwritable = cloneOfRepository(t)
  writeFileSync(join(unwritable, '.data'), 'a file where the folder should be')

  const faults: Array<{ name: string, env: Record<string, string>, cwd?: string, says: RegExp[] }> = [
    { name: 'the port is taken', env: { ...good, PORT: String(port) }, says: [new RegExp(`cannot listen on 127.0.0.1:${port}: something else listens there`)] },
    { name: 'the ops port is taken', env: { ...good, OPS_PORT: String(port) }, says: [new RegExp(`cannot listen on 127.0.0.1:${port}: something else listens there`)] },
    { name: 'the database cannot be reached', env: { ...good, DATABASE_URL: 'postgresql://someone:hush@127.0.0.1:1/orders' }, says: [/127\.0\.0\.1:1\/orders cannot be reached/] },
    { name: 'the data folder cannot be written', env: { PORT: '0', OPS_PORT: '0' }, cwd: unwritable, says: [/\.data/] },
    { name: 'production has no settings', env: { NODE_ENV: 'production', PORT: '0', OPS_PORT: '0' }, says: [/DATABASE_URL is not set in production/, /AUTH_JWT_SECRET and AUTH_JWKS_URL are both absent in production/] },
    { name: 'others reach the ops port and there is no token', env: { ...good, OPS_HOST: '0.0.0.0' }, says: [/OPS_TOKEN is not set, and OPS_HOST \(0\.0\.0\.0\) is not loopback/] },
    { name: 'settings are wrong', env: { ...good, PORT: 'eighty', DRAIN_MIN_MS: '-1', LOG_LEVEL: 'loud' }, says: [/PORT is "eighty"/, /DRAIN_MIN_MS is "-1"/, /LOG_LEVEL is "loud"/] }
  ]
  for (const { name, env, cwd, says } of faults) {
    const service = spawnService(t, env, cwd)
    const [code] = await service.exited
    const output = service.lines.filter(line => !line.startsWith('{')).join('\n')
    t.equal(code, 1, `${name}: exit code 1`)
    for (const pattern of says) t.match(output, pattern, name)
    t.notMatch(output, /hush|\n {4}at /, `${name}: no secret and no stack`)
  }
})

test('two instances that start at once on an empty database both serve', async t => {
  const { url } = await createTestDatabase(t, { empty: true })
  const instances = await Promise.all([startService(t, { DATABASE_URL: url }), startService(t, { DATABASE_URL: url })])
  for (const { url } of instances) t.equal((await fetch(`${url}/readyz`)).status, 200)
  for (const { child } of instances) child.kill('SIGTERM')
  for (const { exited } of instances) t.same(await exited, [0, null])
})

test('each life of a process is a row, which a stop completes and a kill leaves unfinished', async t => {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  const stopped = await startService(t, { DATABASE_URL: url })
  stopped.child.kill('SIGTERM')
  await stopped.exited
  const killed = await startService(t, { DATABASE_URL: url })
  killed.child.kill('SIGKILL')
  await killed.exited
  const { rows } = await sql.query('SELECT pid, reason, exit_code, finished_at IS NOT NULL AS finished, report ->> \'reason\' AS reported FROM stops ORDER BY started_at')
  t.same(rows, [
    { pid: stopped.child.pid, reason: 'SIGTERM', exit_code: 0, finished: true, reported: 'SIGTERM' },
    { pid: killed.child.pid, reason: null, exit_code: null, finished: false, reported: null }
  ])
})
