import { EventEmitter, once } from 'node:events'
import Fastify from 'fastify'
import drain from 'fastify-drain'
import type { DrainReport } from 'fastify-drain'
import t from 'tap'
import { start } from './start.ts'

t.test('with exit: false the plugin leaves the process alone', async t => {
  const events = ['SIGTERM', 'SIGINT', 'SIGHUP', 'uncaughtException', 'unhandledRejection', 'beforeExit']
  const before = events.map(event => process.listenerCount(event))
  const app = Fastify()
  await app.register(drain, { exit: false })
  app.get('/', async () => ({}))
  await app.ready()
  t.same(events.map(event => process.listenerCount(event)), before)
  t.equal(app.drain.state, 'serving')
  t.match(app.drain.report(), { state: 'serving', reason: null, startedAt: null, remaining: null, exitCode: null })
  t.equal(app.drain.remaining(), Infinity)
  t.equal(app.drain.signal.aborted, false)
  t.equal((await app.inject('/')).statusCode, 200)
  const [first, second] = await Promise.all([app.drain.start('test'), app.drain.start('again')])
  t.match(first, { state: 'closed', reason: 'test', exitCode: 0 })
  t.equal(second, first, 'a second start joins the first')
  t.equal(app.drain.state, 'closed')
  t.same(JSON.parse(JSON.stringify(first)), first)
})

t.test('a closed app removes its listeners from the process', async t => {
  const events = ['SIGTERM', 'SIGINT', 'SIGHUP', 'uncaughtException', 'unhandledRejection', 'beforeExit']
  const before = events.map(event => process.listenerCount(event))
  const app = Fastify()
  await app.register(drain)
  await app.ready()
  t.not(process.listenerCount('SIGTERM'), before[0])
  await app.close()
  t.same(events.map(event => process.listenerCount(event)), before)
  t.notOk(Symbol.for('fastify-drain') in globalThis)
})

t.test('the report names the requests in flight', async t => {
  const app = Fastify()
  await app.register(drain, { exit: false })
  const test = new EventEmitter()
  const finished = once(test, 'finish')
  app.get('/orders/:id', async () => {
    test.emit('begun')
    await finished
    return {}
  })
  const begun = once(test, 'begun')
  const answer = app.inject('/orders/7?secret=1')
  await begun
  app.drain.track('outbox', finished)
  t.match(app.drain.report(), {
    requests: { inFlight: 1, pending: [{ id: 'req-1', method: 'GET', route: '/orders/:id', phase: 'handler', clientGone: false }] },
    tracked: { pending: [{ label: 'outbox' }] }
  })
  test.emit('finish')
  await answer
  await new Promise(setImmediate)
  t.match(app.drain.report(), { requests: { inFlight: 0, pending: [] }, tracked: { pending: [] } })
  await app.close()
})

t.test('onReport gets the report, and its failure counts as a failed hook', async t => {
  const app = Fastify()
  let reported: DrainReport | undefined
  await app.register(drain, { exit: false, onReport: report => { reported = report } })
  await app.ready()
  const report = await app.drain.start('test')
  t.match(reported, { state: 'closed', reason: 'test', exitCode: 0 })
  t.equal(report.exitCode, 0)

  const failing = Fastify()
  await failing.register(drain, { exit: false, onReport: async () => { throw new Error('disk full') } })
  await failing.ready()
  t.match(await failing.drain.start('test'), { exitCode: 21 })
})

t.test('a stop by app.drain.start() ends the process after its report', async t => {
  const program = await start(t, 'by-program')
  const answer = fetch(`${program.url}/drain`)
  t.same(await program.ended, [0, null])
  t.equal((await answer).status, 202)
  t.same(program.said.slice(1), ['resolved with operator'])
  t.equal(program.report.reason, 'operator')
})

t.test('a signal during a stop by app.drain.start() joins it, and does not cut it short', async t => {
  const program = await start(t, 'by-program', { lameDuck: { min: 300 } })
  await fetch(`${program.url}/drain`)
  await program.line('draining')
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.ok(program.report.elapsed >= 300)
})

t.test('the last line of the log is written before the stop is over', async t => {
  // As pino's own destination: lines are written later, and `drain` tells that they are.
  class Destination extends EventEmitter {
    readonly minLength = 0
    readonly lines: string[] = []
    #pending = 0
    flushSync (): void {}
    write (line: string): void {
      this.#pending++
      setTimeout(() => {
        this.lines.push(line)
        if (--this.#pending === 0) this.emit('drain')
      }, 20)
    }
  }
  const stream = new Destination()
  const app = Fastify({ logger: { stream } })
  await app.register(drain, { exit: false })
  await app.ready()
  await app.drain.start('test')
  t.match(stream.lines.at(-1), /"msg":"stopped: /)
})

t.test('a second registration is refused, and leaves the first as it is', async t => {
  const app = Fastify()
  await app.register(drain, { exit: false })
  await t.rejects(async () => app.register(drain, { exit: false }), { code: 'FST_ERR_DRAIN_TWICE' })

  const inChild = Fastify()
  await inChild.register(drain, { exit: false })
  inChild.register(async child => { await child.register(drain, { exit: false }) })
  await t.rejects(async () => inChild.ready(), { code: 'FST_ERR_DRAIN_TWICE' })
})

t.test('the report names the resources that the app has not released, and no timer of the stop itself', async t => {
  const app = Fastify()
  await app.register(drain, { exit: false })
  await app.ready()
  t.equal(app.drain.report().resources, null)
  const before = process.getActiveResourcesInfo().filter(type => type === 'Timeout').length
  const leaked = [setInterval(() => {}, 60_000), setInterval(() => {}, 60_000)]
  t.teardown(() => leaked.forEach(clearInterval))
  const { resources } = await app.drain.start('test')
  t.equal(resources?.Timeout, before + 2)
})
