import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import { freePort } from '../../free-port.ts'
import { ServiceInstance } from '../../service/instance.ts'
import type { Target } from '../../target.ts'
import { descendantsOf, gone } from '../processes.ts'

/** Prints what it gets and ends at SIGTERM, a moment later, with 3. */
const wellBehaved = `
  const server = require('node:http').createServer((request, response) => response.end())
  server.listen(process.env.PORT, '127.0.0.1')
  process.once('SIGTERM', () => {
    console.log('phases of', process.pid)
    setTimeout(() => process.exit(3), 20)
  })`

const neverReady = `
  console.log('I shall never be ready')
  require('node:http').createServer((request, response) => response.writeHead(503).end()).listen(process.env.PORT, '127.0.0.1')`

const withChild = `
  require('node:child_process').spawn('sleep', ['600'])
  ${wellBehaved}`

t.test('an instance is ready when start() resolves, and stop() returns exit code, time and phases', async t => {
  const instance = await anInstance(t, wellBehaved)
  await instance.start()
  t.equal((await fetch(instance.url)).status, 200)

  const { exitCode, signal, drainMs, phases } = await instance.stop('SIGTERM')
  t.equal(exitCode, 3)
  t.equal(signal, null)
  t.ok(drainMs >= 20)
  t.strictSame(phases, { draining: 0, closing: 1, closed: 2 })
})

t.test('an instance restarts on the same port, and the phases of a stop come from its latest life alone', async t => {
  const logs: string[] = []
  const instance = await anInstance(t, wellBehaved, { phases: log => { logs.push(log); return undefined } })
  await instance.start()
  await instance.stop('SIGTERM')
  await instance.start()
  t.equal((await fetch(instance.url)).status, 200)
  await instance.stop('SIGTERM')

  t.equal(logs.length, 2)
  t.equal(logs.join(''), readFileSync(instance.log, 'utf8'))
})

t.test('a killed instance has a signal and no exit code', async t => {
  const instance = await anInstance(t, wellBehaved)
  await instance.start()
  t.match(await instance.stop('SIGKILL'), { exitCode: null, signal: 'SIGKILL' })
})

t.test('an instance that hangs in its stop is killed', async t => {
  const instance = await anInstance(t, `process.on('SIGTERM', () => {}); ${wellBehaved.replace("process.once('SIGTERM'", "process.once('SIGUSR2'")}`, { limits: { stop: 100 } })
  await instance.start()
  t.match(await instance.stop('SIGTERM'), { exitCode: null, signal: 'SIGKILL' })
})

t.test('an instance that is never ready is killed, and the error quotes its output', async t => {
  const instance = await anInstance(t, neverReady, { limits: { start: 1_500 } })
  const starting = instance.start()
  const started = descendantsOf(process.pid)
  await t.rejects(starting, { message: /was not ready within 1.5 s, and was killed: GET \/ready .*no 2xx[^]*I shall never be ready/ })
  await gone(started)
})

t.test('an instance that ends before it is ready is an error with its exit code and its output', async t => {
  const instance = await anInstance(t, "console.error('there is no such setting'); process.exit(7)")
  await t.rejects(instance.start(), { message: /ended by itself, with 7[^]*there is no such setting/ })
})

t.test('an instance that has ended by itself is an error when it is awaited and when it is to be stopped', async t => {
  const instance = await anInstance(t, wellBehaved)
  await instance.start()
  const [pid] = descendantsOf(process.pid)
  if (pid === undefined) throw new Error('The instance does not run.')
  process.kill(pid, 'SIGKILL')
  await t.rejects(instance.ready(), { message: /ended by itself, with SIGKILL/ })
  await t.rejects(instance.stop('SIGTERM'), { message: /ended by itself, with SIGKILL/ })
})

t.test('a command that does not exist is reported as such', async t => {
  const instance = await anInstance(t, '', { start: () => ({ command: ['/does/not/exist'], env: {} }) })
  await t.rejects(instance.start(), { message: /could not be started: .*ENOENT.*Mend start\(\)/ })
})

t.test('processes that an instance has started end with it', async t => {
  const instance = await anInstance(t, withChild)
  await instance.start()
  const started = descendantsOf(process.pid)
  t.equal(started.length, 2)
  await instance.stop('SIGTERM')
  await gone(started)
})

t.test('no instance starts after the run is over', async t => {
  const instance = await anInstance(t, wellBehaved)
  await instance.close()
  await t.rejects(instance.start(), { message: 'The run is over; no instance was started.' })
})

async function anInstance (t: Test, program: string, target: Partial<Target> = {}): Promise<ServiceInstance> {
  const instance = new ServiceInstance({
    target: {
      name: 'toy',
      start: (_run, { port }) => ({ command: [process.execPath, '-e', program], env: { PORT: String(port) } }),
      readiness: '/ready',
      phases: log => /^phases of \d+\n$/.test(log) ? { draining: 0, closing: 1, closed: 2 } : undefined,
      request: () => undefined,
      understand: () => ({ type: 'info' }),
      snapshot: async () => ({ orders: [] }),
      ...target
    },
    run: { directory: t.testdir(), databaseUrl: '', directDatabaseUrl: '', products: [] },
    instance: { index: 0, port: await freePort(), opsPort: await freePort(), balanced: false }
  })
  t.teardown(async () => await instance.close())
  return instance
}
