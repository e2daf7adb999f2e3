import { randomUUID } from 'node:crypto'
import addFormats from 'ajv-formats'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import { problems, typeOf, type ProblemType } from '../../plugins/errors.ts'
import { startApp, type Answer } from '../app.ts'

interface Operation {
  operationId?: string
  summary?: string
  security?: object[]
  parameters?: Array<{ name: string, in: string, required?: boolean }>
  requestBody?: object
  responses: Record<string, { description: string, headers?: Record<string, object>, content?: Record<string, { schema: object }> }>
}
interface Document {
  openapi: string
  servers?: Array<{ url: string }>
  security: object[]
  paths: Record<string, Record<string, Operation>>
  components: { securitySchemes: object, schemas?: Record<string, { properties?: Record<string, { enum?: unknown[] }>, required?: string[] }> }
}

const { ask, token } = await startApp(t)
const { status, body: document } = await ask<Document>('GET', '/openapi.json')
const operations = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, operation })))

t.test('the OpenAPI document needs no token and lists every route', async t => {
  t.equal(status, 200)
  t.match(document.openapi, /^3\.1\./)
  t.same(operations.map(({ name }) => name).sort(), [
    'DELETE /products/{sku}',
    'DELETE /webhooks/{id}',
    'GET /livez',
    'GET /orders',
    'GET /orders/stream',
    'GET /orders/{id}',
    'GET /orders/{id}/events',
    'GET /orders/{id}/payments',
    'GET /orders/{id}/payments/{payment}',
    'GET /orders/{id}/returns',
    'GET /products',
    'GET /products/{sku}',
    'GET /products/{sku}/stock',
    'GET /readyz',
    'GET /startupz',
    'GET /webhooks',
    'GET /webhooks/{id}/deliveries',
    'POST /orders',
    'POST /orders/{id}/cancel',
    'POST /orders/{id}/deliver',
    'POST /orders/{id}/pay',
    'POST /orders/{id}/refunds',
    'POST /orders/{id}/returns',
    'POST /orders/{id}/ship',
    'POST /products/{sku}/stock',
    'POST /webhooks',
    'POST /webhooks/{id}/deliveries/{delivery}/replay',
    'PUT /products/{sku}'
  ].sort())
})

t.test('each operation of the OpenAPI document has a summary, its parameters and its failures', async t => {
  for (const { name, operation } of operations) {
    t.ok(operation.summary, name)
    for (const parameter of name.matchAll(/\{(\w+)\}/g)) t.match(operation.parameters?.find(({ name }) => name === parameter[1]), { in: 'path', required: true })
    t.ok(Object.keys(operation.responses).some(status => status.startsWith('2')))
    if (operation.security?.length === 0) continue
    for (const status of ['401', '403', '503']) t.ok(operation.responses[status]?.content?.['application/problem+json'], `${name} can be ${status}`)
  }
  t.ok(document.paths['/orders']?.post?.requestBody)
  for (const path of ['/orders', '/products/{sku}/stock']) {
    t.match(document.paths[path]?.post?.parameters?.find(({ name }) => name === 'idempotency-key'), { in: 'header', required: true }, `${path} takes a key`)
  }
  t.same(operations.flatMap(({ name, operation }) => operation.parameters?.filter(({ required, in: where }) => where === 'query' && required === true).map(({ name: parameter }) => `${name} ${parameter}`) ?? []), [], 'no query parameter is required')
  t.same(operations.filter(({ operation }) => operation.security?.length === 0).map(({ name }) => name), ['GET /livez', 'GET /readyz', 'GET /startupz'], 'only the probes take no token')
})

t.test('each operation of the OpenAPI document has its own operationId, and the document names a server', async t => {
  const names = operations.map(({ operation }) => operation.operationId)
  for (const name of names) t.match(name, /^[a-z][A-Za-z]+$/)
  t.equal(new Set(names).size, names.length)
  t.same(document.servers, [{ url: '/' }])
})

t.test('each answer in the OpenAPI document has its media type and its headers', async t => {
  const { get: stream } = document.paths['/orders/stream'] ?? {}
  t.same(Object.keys(stream?.responses[200]?.content ?? {}), ['text/event-stream'])
  t.same(Object.keys(document.paths['/orders']?.post?.responses[201]?.headers ?? {}).sort(), ['etag', 'idempotent-replayed', 'location'])
  t.same(Object.keys(document.paths['/products/{sku}']?.get?.responses[304]?.headers ?? {}), ['etag'])
  for (const { name, operation } of operations) {
    if (operation.security?.length === 0) continue
    t.ok(operation.responses[503]?.headers?.['retry-after'], name)
    t.ok(operation.responses[401]?.headers?.['www-authenticate'], name)
  }
})

t.test('each problem type has one schema, with one title and its own members', async t => {
  const { schemas = {} } = document.components
  for (const [type, { status, title }] of Object.entries(problems)) {
    const schema = Object.values(schemas).find(({ properties }) => properties?.type?.enum?.includes(typeOf(type as ProblemType)))
    t.same(schema?.properties?.title?.enum, [title], type)
    if (type !== 'invalid-request') t.same(schema?.properties?.status?.enum, [status])
    for (const member of ['type', 'title', 'status', 'detail', 'instance']) t.ok(schema?.required?.includes(member))
  }
  t.ok(schemas.OutOfStockProblem?.required?.includes('sku'))
  t.ok(schemas.UnknownProductProblem?.required?.includes('sku'))
  t.ok(schemas.TransitionNotAllowedProblem?.required?.includes('orderStatus'))
  t.ok(schemas.InvalidRequestProblem?.properties?.errors)
})

t.test('every reference in the OpenAPI document resolves', async t => {
  for (const [, pointer = ''] of JSON.stringify(document).matchAll(/"\$ref":"#([^"]+)"/g)) {
    const target = pointer.split('/').slice(1).reduce<unknown>((value, part) => Reflect.get(Object(value), part), document)
    t.ok(target, pointer)
  }
  t.notMatch(JSON.stringify(document), /"\$ref":"(?!#)/)
})

t.test('the answers of the service match the OpenAPI document', async t => {
  const alice = token('alice')
  const staff = token('boss', { staff: true })
  const placed = await ask<{ id: string }>('POST', '/orders', { token: alice, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
  const { id } = placed.body
  const answers = {
    'POST /orders': placed,
    'GET /orders': await ask('GET', '/orders', { token: alice }),
    'GET /orders/{id}': await ask('GET', `/orders/${id}`, { token: alice }),
    'GET /orders/{id}/events': await ask('GET', `/orders/${id}/events`, { token: alice }),
    'POST /orders/{id}/pay': await ask('POST', `/orders/${id}/pay`, { token: alice }),
    'GET /products': await ask('GET', '/products', { token: alice }),
    'GET /products/{sku}': await ask('GET', '/products/ale-pint', { token: alice }),
    'PUT /products/{sku}': await ask('PUT', '/products/new', { token: staff, body: { name: 'New', unitPrice: 1, currency: 'EUR', stock: 1 } }),
    'POST /products/{sku}/stock': await ask('POST', '/products/new/stock', { token: staff, body: { delta: 1, reason: 'delivery' }, headers: { 'idempotency-key': randomUUID() } }),
    'GET /products/{sku}/stock': await ask('GET', '/products/new/stock', { token: staff }),
    'DELETE /products/{sku}': await ask('DELETE', '/products/new', { token: staff }),
    'POST /orders/{id}/ship': await ask('POST', `/orders/${id}/ship`, { token: alice }),
    'GET /livez': await ask('GET', '/livez')
  }
  const orderOf = (body: unknown, headers = {}) => ask('POST', '/orders', { token: alice, body, headers: { 'idempotency-key': 'refused', ...headers } })
  const items = [{ sku: 'malt-1989', quantity: 6 }]
  const refusals: Array<[name: string, answer: Answer<unknown>]> = [
    ['POST /orders', await ask('POST', '/orders', { token: alice, body: { currency: 'EUR', items } })],
    ['POST /orders', await orderOf({ currency: 'EUR', items })],
    ['POST /orders', await orderOf({ currency: 'USD', items })],
    ['POST /orders', await orderOf({ currency: 'EUR' })],
    ['POST /orders', await orderOf({ currency: 'EUR', items }, { 'content-type': 'text/plain' })],
    ['POST /orders', await orderOf({ currency: 'EUR', items, reference: 'r'.repeat(1_048_576) })],
    ['POST /orders', await ask('POST', '/orders')],
    ['POST /orders/{id}/deliver', await ask('POST', `/orders/${id}/deliver`, { token: staff })],
    ['POST /orders/{id}/cancel', await ask('POST', `/orders/${id}/cancel`, { token: alice, headers: { 'if-match': '"7"' } })],
    ['POST /orders/{id}/cancel', await ask('POST', `/orders/${randomUUID()}/cancel`, { token: alice })],
    ['PUT /products/{sku}', await ask('PUT', '/products/ale-pint', { token: staff, body: { name: 'New', unitPrice: 1, currency: 'EUR', stock: 1 } })],
    ['POST /products/{sku}/stock', await ask('POST', '/products/malt-1989/stock', { token: staff, body: { delta: -6, reason: 'breakage' }, headers: { 'idempotency-key': randomUUID() } })]
  ]
  t.same(refusals.map(([, { status }]) => status), [400, 409, 422, 400, 415, 413, 401, 409, 412, 404, 428, 409])
  for (const [name, answer] of [...Object.entries(answers), ...refusals]) {
    const described = operations.find(operation => operation.name === name)?.operation.responses[answer.status]
    const [type = ''] = String(answer.headers['content-type']).split(';')
    const schema = described?.content?.[type]?.schema
    t.ok(schema, `${name} may be ${answer.status} ${type}`)
    const ajv = new Ajv2020({ strict: false })
    addFormats.default(ajv)
    ajv.addSchema({ $id: 'document', components: document.components })
    t.ok(ajv.validate(JSON.parse(JSON.stringify(schema ?? false).replaceAll('"#/', '"document#/')), answer.body), `${name} ${answer.status}: ${ajv.errorsText()}`)
    for (const header of Object.keys(described?.headers ?? {})) {
      if (header !== 'idempotent-replayed') t.ok(answer.headers[header], `${name} ${answer.status} has ${header}`)
    }
  }
})

t.test('the page at /docs shows the document, and loads files from this service only', async t => {
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
