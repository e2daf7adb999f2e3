import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { parse, stringify } from 'yaml'
import { loadTarget } from '../../load-target.ts'
import { readDescription } from '../../describe/read.ts'
import { validate, type Schema } from '../../describe/validate.ts'

const schema = JSON.parse(readFileSync(join(import.meta.dirname, '../../description.schema.json'), 'utf8')) as Schema

t.test('every fault of a description is reported at once, with its line, its path and a correct example', async t => {
  const file = write(t, `
name: shop
start:
  comand: [node, service.js]
  command: node service.js
  env: { PORT: [1] }
limits: { start: soon, stop: 0 }
money: cents
requests:
  read: orders/{{id}}
  place: { method: FETCH, path: /orders }
order: { id: id }
refusals: { sold-out: 409, out-of-stock: { where: { /error: x } } }
stored: { sql: { orders: select }, command: [cat] }
`)
  t.throws(() => readDescription(file), {
    message: `${file} cannot be used; nothing was started.\n` + [
      "line 4: start.ready is missing. Path on the service's port: 2xx as soon as traffic may come, anything else while it must not. For example ready: \"/healthz\"",
      'line 4: start.comand is not known. start takes command, cwd, env, ready.',
      'line 5: start.command is "node service.js". It takes a list that is not empty, for example command: ["python3","service.py"]',
      'line 6: start.env.PORT is [1]. It takes a text or a number or true or false, for example PORT: "{{databaseUrl}}"',
      'line 7: limits.start is "soon". It takes a number above 0, for example start: 120',
      'line 7: limits.stop is 0. It takes a number above 0, for example stop: 90',
      'line 8: money is "cents". It takes one of minor, major, for example money: "minor"',
      'line 10: requests.read is "orders/{{id}}". It takes a text "METHOD /path" or an object, for example read: "GET /orders/{{id}}"',
      'line 11: requests.place.method is "FETCH". It takes one of GET, POST, PUT, PATCH, DELETE, for example method: "POST"',
      'line 12: order.id is "id". It takes a text that begins with "/", or is "Location", for example id: "/id"',
      'line 13: refusals.sold-out is not known. refusals takes out-of-stock, unknown-product, idempotency-key-reused, not-found, transition-not-allowed, version-mismatch, invalid-request, not-started, rate-limited.',
      'line 13: refusals.out-of-stock.status is missing. It takes a whole number from 400 to 599. For example status: 409',
      'line 14: stored has 2 of sql, http, command. It takes exactly one, for example stored: {"sql":{"orders":"select id, customer, key, status, total, items from orders"}}'
    ].map(line => `  - ${line}`).join('\n')
  })
})

t.test('a part with the right shape and no possible meaning is reported in the same way', async t => {
  const file = write(t, `
start: { command: [node, service.js], cwd: nowhere, ready: /, env: { PORT: "{{prot}}", DATABASE_URL: "{{databaseUrl}}" } }
prepare: [{ sqlFile: none.sql }]
requests:
  place: { method: POST, path: /orders, headers: { authorization: "Bearer {{jwt}}" } }
  read: GET /orders
  stream: GET /events
order: { id: /id }
list: { next: /next }
transitions: { new: [paid], paid: [new] }
products: [{ sku: tea, unitPrice: 1, currency: EUR, stock: 5 }]
refusals: { out-of-stock: { status: 409, where: { error: x } } }
stored: { sql: { orders: select } }
`)
  const message = thrown(() => readDescription(file))
  for (const says of [
    /line 2: start takes \{\{prot\}\}, which is not known there\. Known: \{\{databaseUrl\}\}, .*\{\{port\}\}/,
    /line 2: start\.cwd is "nowhere", and there is no such folder/,
    /line 3: prepare\[0\]\.sqlFile is "none\.sql", and there is no such file/,
    /line 3: prepare\[0\] is SQL .* postgres is missing: postgres: true/,
    /line 5: requests\.place does not send \{\{key\}\}.*for example/,
    /jwt is missing/,
    /line 6: requests\.read does not send \{\{id\}\}/,
    /stream one is missing/,
    /line 9: list says where orders are on a page, and requests\.list is missing/,
    /line 10: transitions go in a circle \(new → paid → new\).*order\.version is missing/,
    /line 11: products has none that does not run out/,
    /line 12: refusals\.out-of-stock\.where has "error"/,
    /line 13: stored\.sql is asked of the Postgres that verify starts, and postgres is missing/,
    /URL of a database is taken, and postgres is missing/
  ]) t.match(message, says)
})

t.test('invalid YAML is reported with its line, and so is a missing file', async t => {
  t.match(thrown(() => readDescription(write(t, 'name: shop\nstart: {'))), /line 2: /)
  t.match(thrown(() => readDescription(write(t, 'name: a\nname: b'))), /line 2: .*unique/)
  await t.rejects(loadTarget(join(t.testdir(), 'none.yaml')), { message: /none\.yaml cannot be read: ENOENT/ })
})

t.test('the same description may be JSON', async t => {
  const example = join(import.meta.dirname, '../../examples/python/verify.yaml')
  const directory = t.testdir({ 'verify.json': JSON.stringify(parse(readFileSync(example, 'utf8'))) })
  t.strictSame(readDescription(join(directory, 'verify.json')), readDescription(example))
  t.equal((await loadTarget(join(directory, 'verify.json'))).name, 'python')
})

t.test('every example in the schema for editors is valid by that schema', async t => {
  const look = (part: unknown, path: string): void => {
    if (typeof part !== 'object' || part === null) return
    const { examples } = part as Schema
    if (Array.isArray(examples)) {
      for (const example of examples) t.strictSame(validate(example, { ...part as Schema, $defs: schema.$defs ?? {} }), [], `${path}: ${stringify(example)}`)
    }
    for (const [name, inner] of Object.entries(part)) if (name !== 'examples') look(inner, `${path}/${name}`)
  }
  look(schema, '')
})

function write (t: Test, text: string): string {
  return join(t.testdir({ 'verify.yaml': text }), 'verify.yaml')
}

function thrown (run: () => unknown): string {
  try {
    run()
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
  return 'nothing was thrown'
}
