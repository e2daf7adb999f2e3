import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { startApp } from '../app.ts'
import { createTestDatabase } from '../postgres.ts'

const { url: databaseUrl } = await createTestDatabase(t)
const header = 'x-envoy-immediate-health-check-fail'

t.test('every reply during a stop tells Envoy that the instance is leaving, and none before does', async t => {
  const { app, url, ask } = await startApp(t, { databaseUrl, settings: { ENVOY_HEALTH_HEADER: 'true' } })
  for (const path of ['/livez', '/nowhere', '/products']) t.notOk((await ask('GET', path)).headers[header], `${path} while serving`)
  // A request whose body is not yet there is under way.
  const underWay = connect(Number(new URL(url).port), '127.0.0.1')
  t.teardown(() => { underWay.destroy() })
  const arrived = once(app.server, 'request')
  underWay.write('PUT /nowhere HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n')
  await arrived
  let release = (): void => {}
  app.drain.on('draining', () => new Promise<void>(resolve => { release = resolve }))

  const stopped = app.drain.start('test')
  for (const [path, status] of [['/livez', 200], ['/readyz', 503], ['/nowhere', 404], ['/products', 401]] as const) {
    const { status: answered, headers } = await ask('GET', path)
    t.same([answered, headers[header]], [status, 'true'], path)
  }
  underWay.write('{}')
  t.match(String((await once(underWay, 'data'))[0]), new RegExp(`^HTTP/1.1 404 [^]*${header}: true\r\n`), 'also one that was under way')
  release()
  t.equal((await stopped).exitCode, 0)
})

t.test('no reply tells Envoy of a stop unless ENVOY_HEALTH_HEADER is set', async t => {
  const { app, ask } = await startApp(t, { databaseUrl })
  let release = (): void => {}
  app.drain.on('draining', () => new Promise<void>(resolve => { release = resolve }))
  const stopped = app.drain.start('test')
  t.notOk((await ask('GET', '/readyz')).headers[header])
  release()
  t.equal((await stopped).exitCode, 0)
})
