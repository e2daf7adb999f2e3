import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { expectCleanStop, observeStop, StopTestError, UncleanStopError } from 'fastify-drain/test'
import type { StopOptions } from 'fastify-drain/test'
import t from 'tap'

// These tests wait more than they work.
t.jobs = 3

const node = process.env['DRAIN_TEST_NODE'] ?? process.execPath
/** A lame duck, in which the clients learn that their connections close. */
const lameDuck = { min: 500 }

t.test('a clean stop returns its account', async t => {
  const account = await expectCleanStop(service('drain', JSON.stringify({ lameDuck })))
  t.match(account, { signal: 'SIGTERM', clients: 20, inFlight: 20, faults: [], exit: { code: 0, signal: null, overdue: false } })
  t.ok(account.before.answered >= 20, `${account.before.answered} answered before`)
  t.ok(account.after.answered >= 20, `${account.after.answered} answered after`)
  t.equal(account.statuses['200'], account.before.answered + account.after.answered)
  t.same(account.leftBehind, { processes: [], listening: null })
  t.same(JSON.parse(JSON.stringify(account)), account)
})

t.test('a clean stop without a lame duck finishes the requests in flight', async t => {
  const account = await expectCleanStop(service('drain', JSON.stringify({ work: 300 })))
  t.equal(account.after.answered, 20)
})

t.test('a request that arrives while the app closes and gets a 503 counts as failed', async t => {
  const { message, account } = await uncleanStop(service('bare'))
  t.ok(account.after.failed > 0)
  t.equal(account.exit.code, 0)
  t.match(message, /^The stop was not clean: \d+ × failed/)
  t.match(message, /^ {6}GET \/work, sent at [−+]\d+ ms, ended at \+\d+ ms: 503$/m)
  t.match(message, /20 clients of http:\S+\/work: \d+ answered before SIGTERM, 20 in flight at it, \d+ answered after it/)
  t.match(message, /Its last output:\n {4}listening at http/)
})

t.test('a request that the service read and never answered counts as abandoned', async t => {
  const { message, account } = await uncleanStop(service('unclean', 'abandons'))
  t.equal(account.after.abandoned, 20)
  t.same(account.faults.map(({ kind }) => kind), ['abandoned'])
  t.match(message, /20 × abandoned: the service had read the request/)
  t.match(message, /GET \/work, sent at [−+]\d+ ms, ended at \+\d+ ms: the end of the connection/)
})

t.test('a request that the service never read counts as unread, and more of them than the race explains are a fault', async t => {
  const { message, account } = await uncleanStop(service('unclean', 'does not read'))
  t.ok(account.after.unread > 10)
  t.equal(account.after.abandoned, 0)
  t.match(message, /\d+ × unread: .* up to 10 would pass/)
  await expectCleanStop({ ...service('unclean', 'does not read'), allow: { unread: 40 } })
})

t.test('a request that crosses the orderly end of its connection counts as unread', async t => {
  const { after } = await observeStop(service('unclean', 'ends connections'))
  t.ok(after.unread > 2, `${after.unread} unread`)
  t.equal(after.abandoned, 0)
})

t.test('a request with a partial answer counts as cut', async t => {
  const { message, account } = await uncleanStop(service('unclean', 'cuts'))
  t.equal(account.after.cut, 20)
  t.match(message, /20 × cut: /)
  t.match(message, /: 200, then the end of the connection/)
})

t.test('a service that does not exit is killed, and its unanswered requests count as hung', async t => {
  const { message, account } = await uncleanStop({ ...service('unclean', 'hangs'), exitWithin: 500 })
  t.equal(account.after.hung, 20)
  t.match(account.exit, { code: null, signal: null, overdue: true })
  t.match(message, /20 × hung: /)
  t.match(message, /1 × still running 500 ms after SIGTERM, and killed/)
  await isGone(pidIn(account.output))
})

t.test('a refusal is a fault, unless it is allowed', async t => {
  const { message, account } = await uncleanStop(service('unclean', 'refuses'))
  t.ok(account.after.refused > 0)
  t.match(message, /\d+ × refused with 503 and Retry-After/)
  const { after } = await expectCleanStop({ ...service('unclean', 'refuses'), allow: { refused: true, unread: 40 } })
  t.ok(after.refused > 0)
})

t.test('an error before the signal is a fault too', async t => {
  const { message, account } = await uncleanStop(service('unclean', 'fails'))
  t.ok(account.before.failed > 0)
  t.equal(account.before.answered, 0)
  t.match(message, /GET \/work, sent at −\d+ ms, ended at −\d+ ms: 500/)
})

t.test('a load of 401s proves nothing, unless they are what is expected', async t => {
  const { account } = await uncleanStop(service('unclean', 'keeps out'))
  t.ok(account.before.failed > 0)
  const accepting = await observeStop({ ...service('unclean', 'keeps out'), accepts: status => status === 401 })
  t.equal(accepting.before.failed, 0)
  t.equal(accepting.statuses['401'], accepting.before.answered + accepting.after.answered)
})

t.test('an exit code other than the expected one is a fault', async t => {
  const { message } = await uncleanStop(service('unclean', 'exits 7'))
  t.match(message, /1 × exit code 7 instead of exit code 0/)
  const { faults, exit } = await observeStop({ ...service('unclean', 'exits 7'), exitCode: 7 })
  t.equal(exit.code, 7)
  t.notOk(faults.some(({ kind }) => kind === 'exit'))
})

t.test('a service that does not handle the signal is a fault', async t => {
  const { message } = await uncleanStop({ ...service('unclean', 'closes'), signal: 'SIGHUP' })
  t.match(message, /1 × ended by SIGHUP instead of exit code 0\. It does not handle the signal/)
})

t.test('a child process that outlives the service is reported as left behind and is killed', async t => {
  const { message, account } = await uncleanStop(service('unclean', 'leaves a child'))
  const [child] = account.leftBehind.processes
  t.match(child?.command, /the child/)
  t.match(message, /1 × left behind/)
  t.match(message, new RegExp(`process ${child?.pid}: .*the child`))
  await isGone(child?.pid)
})

t.test('a service whose wrapper does not forward the signal is reported as left behind on its port', async t => {
  const { message, account } = await uncleanStop({ ...service('wrapper'), loadFor: 0 })
  t.ok(account.leftBehind.processes.some(({ pid }) => pid === pidIn(account.output)))
  t.equal(account.leftBehind.listening, new URL(account.url).origin)
  t.match(message, /http:\S+ still accepts connections/)
  await isGone(pidIn(account.output))
})

t.test('behind a balancer the lame duck must outlast the time that the balancer needs to notice', async t => {
  const balancer = { readiness: '/readyz', interval: 50, fall: 2 }
  const account = await expectCleanStop({ ...service('drain', JSON.stringify({ lameDuck: { min: 2_000, max: 2_000 } })), balancer })
  t.equal(account.after.unconnected, 0)
  t.ok(account.after.answered > 20)

  const { message } = await uncleanStop({ ...service('drain', JSON.stringify({ work: 300 })), balancer: { ...balancer, interval: 5_000 } })
  t.match(message, /20 × not connected while the balancer still sent them/)
})

t.test('the option `request` may be a function that makes each request', async t => {
  const asked: number[] = []
  const { statuses } = await observeStop({
    ...service('drain', JSON.stringify({ lameDuck })),
    request (n) {
      asked.push(n)
      return n % 2 === 0 ? { path: '/work?even' } : { method: 'POST', path: '/nowhere', headers: { 'content-type': 'text/plain' }, body: 'odd' }
    }
  })
  t.ok((statuses['200'] ?? 0) > 0)
  t.ok((statuses['404'] ?? 0) > 0)
  t.same(asked, asked.map((_n, index) => index))
})

t.test('a command can be a string, and a URL can tell that it is ready', async t => {
  const port = await freePort()
  const url = `http://127.0.0.1:${port}/work`
  const account = await observeStop({ command: `${node}  ${fixture('unclean')} closes`, url, env: { PORT: String(port) }, loadFor: 0 })
  t.same(account.command, [node, fixture('unclean'), 'closes'])
  t.equal(account.url, url)
  t.equal(account.exit.code, 0)
})

t.test('a service that does not become ready fails the test and is killed', async t => {
  const error = await failedTest({ ...service('unclean'), ready: /^ready$/, url: 'http://127.0.0.1:1/', startWithin: 1_500 })
  t.equal(error.code, 'ERR_STOP_NOT_READY')
  t.match(error.message, /It was not ready \(\/\^ready\$\/\) within 1500 ms\. No stop was tested, and nothing is left running\.\n {2}Its last output:\n {4}pid/)
  await isGone(pidIn(error.message.split('\n')))
})

t.test('a service that does not answer its clients fails the test', async t => {
  const error = await failedTest({ ...service('unclean'), command: [node, '-e', silent], startWithin: 1_000 })
  t.equal(error.code, 'ERR_STOP_NOT_READY')
  t.match(error.message, /It did not answer each of 20 clients once within 1000 ms/)
})

t.test('a service that cannot be started fails the test', async t => {
  const error = await failedTest({ ...service('unclean'), command: 'no-such-program here' })
  t.equal(error.code, 'ERR_STOP_NOT_READY')
  t.match(error.message, /^no-such-program here: It could not be started: .*ENOENT/)
})

t.test('a service that ends by itself, while it starts or under load, fails the test', async t => {
  const atStart = await failedTest({ ...service('unclean'), command: [node, '-e', 'console.error("no database"); process.exit(1)'] })
  t.equal(atStart.code, 'ERR_STOP_ENDED_EARLY')
  t.match(atStart.message, /It ended before it was sent SIGTERM: exit code 1\. [^]*no database/)
  const underLoad = await failedTest({ ...service('unclean', 'ends early'), loadFor: 60_000 })
  t.equal(underLoad.code, 'ERR_STOP_ENDED_EARLY')
  t.match(underLoad.message, /exit code 3/)
})

t.test('the kit does not mistake another service on the port for the one under test', async t => {
  const server = createServer((_request, response) => response.end()).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const error = await failedTest({ command: [node, '-e', 'process.exit(1)'], url: `http://127.0.0.1:${port}/` })
  t.equal(error.code, 'ERR_STOP_PORT_TAKEN')
  t.match(error.message, /Nothing was started/)
})

t.test('`abort` calls the test off, and no process survives', async t => {
  const controller = new AbortController()
  const error = await failedTest({
    ...service('unclean'),
    loadFor: 60_000,
    abort: controller.signal,
    request (n) {
      if (n === 30) controller.abort()
      return {}
    }
  })
  t.equal(error.code, 'ERR_STOP_ABORTED')
  await isGone(pidIn(error.message.split('\n')))
})

t.test('an unusable option is refused before anything starts', async t => {
  const good = service('unclean')
  for (const [wrong, told] of [
    [{ command: '' }, '`command` is empty'],
    [{ url: '/work', ready: 'http://127.0.0.1:1/' }, "'/work' is no http: URL"],
    [{ url: 'https://127.0.0.1:1/', ready: 'http://127.0.0.1:1/' }, 'is no http: URL'],
    [{ clients: 0 }, '`clients` is 0'],
    [{ loadFor: -1 }, '`loadFor` must be a whole number of 0 or more'],
    [{ signal: 'SIGNONE' as NodeJS.Signals }, '`signal` is \'SIGNONE\'']
  ] as const) {
    const error = await failedTest({ ...good, ...wrong })
    t.equal(error.code, 'ERR_STOP_OPTION')
    t.match(error.message, told)
    t.match(error.message, 'Nothing was started')
  }
})

/** Listens, says so, and answers nothing. */
const silent = "require('node:net').createServer(() => {}).listen(0, '127.0.0.1', function () { console.log('listening at http://127.0.0.1:' + this.address().port) })"

function fixture (name: string): string {
  return fileURLToPath(new URL(`fixtures/clean-stop-${name}.js`, import.meta.url))
}

function service (name: string, ...args: string[]): StopOptions {
  return { command: [node, fixture(name), ...args], url: '/work', ready: /^listening at (.*)/, loadFor: 200 }
}

async function uncleanStop (options: StopOptions): Promise<UncleanStopError> {
  const error = await thrownBy(options)
  if (error instanceof UncleanStopError && error.code === 'ERR_STOP_UNCLEAN') return error
  throw error
}

async function failedTest (options: StopOptions): Promise<StopTestError> {
  const error = await thrownBy(options)
  if (error instanceof StopTestError && !(error instanceof UncleanStopError)) return error
  throw error
}

async function thrownBy (options: StopOptions): Promise<unknown> {
  try {
    await expectCleanStop(options)
  } catch (error) {
    return error
  }
  return new Error('the stop was clean')
}

function pidIn (lines: string[]): number {
  return Number(lines.map(line => /pid (\d+)/.exec(line)?.[1]).find(pid => pid !== undefined))
}

/** Resolves when no such process runs. A zombie, which has ended and was not reaped, does not run. */
async function isGone (pid: number | undefined): Promise<void> {
  if (!Number.isInteger(pid)) throw new Error(`no pid: ${String(pid)}`)
  for (;;) {
    try {
      if (execFileSync('ps', ['-o', 'stat=', '-p', String(pid)]).toString().trim().startsWith('Z')) return
    } catch {
      return
    }
    await delay(20)
  }
}

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
