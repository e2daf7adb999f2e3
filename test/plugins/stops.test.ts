import t from 'tap'
import { startApp } from '../app.ts'

t.test('a stop that the database does not take down is as clean as any other', async t => {
  const { app, sql } = await startApp(t)
  await sql.query('ALTER TABLE stops RENAME TO elsewhere')
  const { exitCode, hooks } = await app.drain.start('test')
  t.equal(exitCode, 0, JSON.stringify(hooks))
})

t.test('the stops of the last hour are counted by how they ended', async t => {
  const { app } = await startApp(t)
  t.same(await app.stops.recent(), { clean: 0, abandoned: 0, failed: 0, unfinished: 0 }, 'all are told, also at 0; this life has not stopped')

  const minutesAgo = (minutes: number): Date => new Date(Date.now() - minutes * 60_000)
  const life = async (data: { stoppingAt?: Date, finishedAt?: Date, exitCode?: number }): Promise<void> => {
    await app.prisma.stop.create({ data: { id: crypto.randomUUID(), instance: 'another', pid: 1, startedAt: minutesAgo(600), ...data } })
  }
  await life({})
  await life({ stoppingAt: new Date() })
  t.same(await app.stops.recent(), { clean: 0, abandoned: 0, failed: 0, unfinished: 0 }, 'one that runs, and one whose deadline is not over')

  await life({ stoppingAt: minutesAgo(2), finishedAt: minutesAgo(1), exitCode: 0 })
  await life({ stoppingAt: minutesAgo(2), finishedAt: minutesAgo(1), exitCode: 20 })
  for (const exitCode of [1, 21, 22]) await life({ stoppingAt: minutesAgo(2), finishedAt: minutesAgo(1), exitCode })
  await life({ stoppingAt: minutesAgo(2) })
  t.same(await app.stops.recent(), { clean: 1, abandoned: 1, failed: 3, unfinished: 1 })

  await life({ stoppingAt: minutesAgo(62), finishedAt: minutesAgo(61), exitCode: 20 })
  await life({ stoppingAt: minutesAgo(61) })
  t.same(await app.stops.recent(), { clean: 1, abandoned: 1, failed: 3, unfinished: 1 }, 'longer ago counts no more')

  const metrics = await app.metrics.render()
  t.match(metrics, /^stops_recent\{outcome="clean"\} 1$/m)
  t.match(metrics, /^stops_recent\{outcome="abandoned"\} 1$/m)
  t.match(metrics, /^stops_recent\{outcome="failed"\} 3$/m)
  t.match(metrics, /^stops_recent\{outcome="unfinished"\} 1$/m)
})
