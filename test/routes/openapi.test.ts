import { randomUUID } from 'node:crypto'
import addFormats from 'ajv-formats'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import { startApp } from '../app.ts'

interface Operation {
  summary?: string
  security?: object[]
  parameters?: Array<{ name: string, in: string, required?: boolean }>
  requestBody?: object
  responses: Record<string, { description: string, content?: Record<string, { schema: object }> }>
}
interface Document {
  openapi: string
  security: object[]
  paths: Record<string, Record<string, Operation>>
  components: { securitySchemes: object, schemas?: object }
}

const { ask, token } = await startApp(t)
const { status, body: document } = await ask<Document>('GET', '/openapi.json')
const operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })))

t.test('the document is for everybody and tells every route', async t => {
  t.equal(status, 200)
  t.match(document.openapi, /^3\.1\./)
  t.same(operations.map(({ name }) => name).sort(), [
    'GET /livez',
    'GET /orders',
    'GET /orders/stream',
    'GET /orders/{id}',
    'GET /orders/{id}/events',
    'GET /products',
    'GET /readyz',
    'GET /startupz',
    'POST /orders',
    'POST /orders/{id}/cancel',
    'POST /orders/{id}/deliver',
    'POST /orders/{id}/pay',
    'POST /orders/{id}/ship',
    'PUT /products/{sku}'
  ].sort())
})

t.test('each operation says what it is, what it takes and how it fails', async t => {
  for (const { name, operation } of operations) {
    t.ok(operation.summary, name)
    for (const parameter of name.matchAll(/\{(\w+)\}/g)) t.match(operation.parameters?.find(({ name }) => name === parameter[1]), { in: 'path', required: true })
    t.ok(Object.keys(operation.responses).some(status => status.startsWith('2')))
    if (operation.security?.length === 0) continue
    for (const status of ['401', '403', '503']) t.ok(operation.responses[status]?.content?.['application/problem+json'], `${name} can be ${status}`)
  }
  const { parameters, requestBody } = document.paths['/orders']?.post ?? {}
  t.ok(parameters?.some(parameter => parameter.name === 'idempotency-key' && parameter.in === 'header'))
  t.ok(requestBody)
  t.same(operations.filter(({ operation }) => operation.security?.length === 0).map(({ name }) => name), ['GET /livez', 'GET /readyz', 'GET /startupz'], 'only the probes take no token')
})

t.test('every reference in the document leads somewhere', async t => {
  for (const [, pointer = ''] of JSON.stringify(document).matchAll(/"\$ref":"#([^"]+)"/g)) {
    const target = pointer.split('/').slice(1).reduce<unknown>((value, part) => Reflect.get(Object(value), part), document)
    t.ok(target, pointer)
  }
  t.notMatch(JSON.stringify(document), /"\$ref":"(?!#)/)
})

t.test('the answers are as the document says', async t => {
  const alice = token('alice')
  const placed = await ask<{ id: string }>('POST', '/orders', { token: alice, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
  const { id } = placed.body
  const answers = {
    'POST /orders': placed,
    'GET /orders': await ask('GET', '/orders', { token: alice }),
    'GET /orders/{id}': await ask('GET', `/orders/${id}`, { token: alice }),
    'GET /orders/{id}/events': await ask('GET', `/orders/${id}/events`, { token: alice }),
    'POST /orders/{id}/pay': await ask('POST', `/orders/${id}/pay`, { token: alice }),
    'GET /products': await ask('GET', '/products', { token: alice }),
    'POST /orders/{id}/ship': await ask('POST', `/orders/${id}/ship`, { token: alice }),
    'GET /livez': await ask('GET', '/livez')
  }
  for (const [name, answer] of Object.entries(answers)) {
    const described = operations.find(operation => operation.name === name)?.operation.responses[answer.status]
    const [type = ''] = String(answer.headers['content-type']).split(';')
    const schema = described?.content?.[type]?.schema
    t.ok(schema, `${name} may be ${answer.status} ${type}`)
    const ajv = new Ajv2020({ strict: false })
    addFormats.default(ajv)
    t.ok(ajv.validate(schema ?? false, answer.body), ajv.errorsText())
  }
})

t.test('the page shows the document, from this service alone', async t => {
  const page = await ask('GET', '/docs/')
  t.equal(page.status, 200)
  t.match(page.headers['content-type'], /^text\/html/)
  t.match(page.headers['content-security-policy'], /default-src 'self'/)
  for (const [, path = ''] of page.text.matchAll(/(?:src|href)="([^"]+)"/g)) {
    t.notMatch(path, /^(https?:)?\/\//)
    t.equal((await ask('GET', new URL(path, 'http://x/docs/').pathname)).status, 200, path)
  }
  t.same((await ask<Document>('GET', '/docs/json')).body, document)
})
