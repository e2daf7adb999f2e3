import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import t from 'tap'
import { loadConfig } from '../../config.ts'
import { buildOps } from '../../ops.ts'
import { startApp } from '../app.ts'

interface Parameter { name: string, in: string, schema: { type?: string } }
interface Document { paths: Record<string, Record<string, { parameters?: Parameter[] }>> }

const { app, ask, token } = await startApp(t)
const staff = token('boss', { staff: true })
const notFinite = ['1e400', '-1e400', 'Infinity', '-Infinity', 'NaN', `1${'0'.repeat(400)}`]

t.test('no number in a query of the API can be infinite', async t => {
  const { body: { paths } } = await ask<Document>('GET', '/openapi.json')
  let tried = 0
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, { parameters = [] }] of Object.entries(methods)) {
      for (const { name } of parameters.filter(parameter => parameter.in === 'query' && /^(integer|number)$/.test(String(parameter.schema.type)))) {
        for (const value of notFinite) {
          t.match(await ask(method.toUpperCase() as 'GET', `${path.replace('{sku}', 'ale-pint').replace('{id}', randomUUID())}?${name}=${value}`, { token: staff }), { status: 400, body: { type: '/problems/invalid-request', errors: [{ path: `/${name}` }] } }, `${path}?${name}=${value.slice(0, 10)}`)
          tried++
        }
      }
    }
  }
  t.ok(tried >= 2 * notFinite.length)
})

t.test('no number in a query of the ops port can be infinite', async t => {
  const ops = await buildOps({ app, config: loadConfig({ NODE_ENV: 'test', AUTH_JWT_SECRET: 'x', DATABASE_URL: 'postgres://127.0.0.1/x' }), logger: pino({ level: 'silent' }) })
  t.teardown(() => ops.close())
  for (const value of notFinite) t.equal((await ops.inject(`/reports?limit=${value}`)).statusCode, 400, value.slice(0, 10))
  t.equal((await ops.inject('/reports?limit=5')).statusCode, 200)
})

t.test('no number in a body can be infinite', async t => {
  const headers = { 'idempotency-key': randomUUID() }
  for (const value of ['1e400', '-1e400']) {
    const requests: Array<[method: 'POST' | 'PUT', path: string, body: string]> = [
      ['POST', '/orders', `{"currency":"EUR","items":[{"sku":"ale-pint","quantity":${value}}]}`],
      ['PUT', '/products/new', `{"name":"x","currency":"EUR","stock":1,"unitPrice":${value}}`],
      ['PUT', '/products/new', `{"name":"x","currency":"EUR","stock":${value},"unitPrice":1}`],
      ['POST', '/products/ale-pint/stock', `{"reason":"x","delta":${value}}`]
    ]
    for (const [method, path, body] of requests) t.equal((await ask(method, path, { token: staff, body, headers })).status, 400, body)
  }
})
