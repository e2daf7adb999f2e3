import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../../free-port.ts'
import { Clock, clockMissing } from '../../service/clock.ts'
import { ServiceInstance } from '../../service/instance.ts'
import type { Target } from '../../target.ts'

/** Prints the time from every source. */
const clocked = `
  require('node:http').createServer((request, response) => response.end(JSON.stringify({
    now: Date.now(),
    constructed: Number(new Date()),
    called: Date.parse(Date()),
    given: new Date(2026, 0, 1, 12).getHours(),
    parsed: new Date('2026-01-01T00:00:00Z').getTime(),
    isDate: new Date() instanceof Date && new Date().constructor === Date && require('node:util').types.isDate(new Date()),
    subclassed: new (class extends Date { twice () { return 2 * this.getTime() } })(21).twice(),
    counted: performance.timeOrigin + performance.now(),
    zone: Intl.DateTimeFormat().resolvedOptions().timeZone
  }))).listen(process.env.PORT, '127.0.0.1')
  process.once('SIGTERM', () => {
    console.log(Date.now())
    process.exit()
  })`

interface Told {
  now: number
  constructed: number
  called: number
  given: number
  parsed: number
  isDate: boolean
  subclassed: number
  counted: number
  zone: string
}

t.test('a process follows its set clock in either direction, and its timers are not affected', async t => {
  const { clock, ask } = await startClocked(t)
  for (const offset of [0, 3_600_000, -3_600_000, 0]) {
    await clock.set(offset)
    const before = Date.now()
    const told = await ask()
    for (const shown of [told.now, told.constructed]) t.ok(shown - offset >= before - 1 && shown - offset <= Date.now() + 1, `${shown} at ${offset}`)
    // Without its milliseconds.
    t.ok(Math.abs(told.called - told.now) < 2_000)
    t.ok(told.counted >= before - 100 && told.counted <= Date.now() + 100)
    t.match(told, { given: 12, parsed: Date.UTC(2026), isDate: true, subclassed: 42 })
  }
})

t.test('a process that starts while its clock is wrong uses the wrong time from its beginning', async t => {
  const { clock, instance, ask } = await startClocked(t)
  await clock.set(-3_600_000)
  await instance.stop('SIGKILL')
  await instance.start()
  t.ok((await ask()).now < Date.now() - 3_000_000)
})

t.test('the time of a stop is converted to true time, whatever the clock was set to', async t => {
  const { clock, instance } = await startClocked(t)
  await clock.set(3_600_000)
  await clock.set(-90_000)
  const before = Date.now()
  const { report } = await instance.stop('SIGTERM')
  const { startedAt = NaN } = report ?? {}
  t.ok(startedAt >= before - 1 && startedAt <= Date.now() + 1, `${startedAt}`)
})

t.test('each life of an instance is in another time zone', async t => {
  const { instance, ask } = await startClocked(t, ['Pacific/Apia', 'America/St_Johns'])
  const zones = [(await ask()).zone]
  for (let restarts = 0; restarts < 2; restarts++) {
    await instance.stop('SIGKILL')
    await instance.start()
    zones.push((await ask()).zone)
  }
  t.strictSame(zones, ['Pacific/Apia', 'America/St_Johns', 'Pacific/Apia'])
})

t.test('only the clock of Node can be set', async t => {
  const startedBy = (program: string): Target => ({ name: 'orders', start: () => ({ command: [program], env: {} }) }) as unknown as Target
  t.equal(clockMissing(startedBy(process.execPath)), undefined)
  t.equal(clockMissing(startedBy('/srv/orders')), 'Only the clock of a Node process can be set, and orders is started by /srv/orders.')
})

async function startClocked (t: Test, zones?: string[]) {
  const target = { name: 'clocked', readiness: '/', start: (_, { port }) => ({ command: [process.execPath, '-e', clocked], env: { PORT: String(port) } }), report: (log: string) => ({ startedAt: Number(log) }) } as Pick<Target, 'name' | 'readiness' | 'start'> as Target
  const directory = t.testdir()
  const clock = new Clock(join(directory, 'clock'))
  const instance = new ServiceInstance({
    target,
    run: { directory, databaseUrl: '', directDatabaseUrl: '', products: [] },
    instance: { index: 0, port: await freePort(), opsPort: 0, balanced: false },
    clock,
    zones
  })
  t.teardown(async () => await instance.close())
  await instance.start()
  return { clock, instance, ask: async () => await (await fetch(instance.url)).json() as Told }
}
