import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { NotCalled, type CustomerStatus } from '../../orders/ports.ts'
import { KnownCustomers } from '../../plugins/customers.ts'
import { startApp, type AppOverrides, type RunningApp } from '../app.ts'
import { hangs, startCalled, type Behaviour, type Called } from '../called.ts'
import { createTestDatabase } from '../postgres.ts'

const { url: databaseUrl } = await createTestDatabase(t)
await startApp(t, { databaseUrl }).then(({ sql }) => sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)"))

const says = (status: string): Behaviour => ({ path }) => ({ status: 200, body: { id: decodeURIComponent(path.slice('/customers/'.length)), status } })
const knowsNobody: Behaviour = () => ({ status: 404 })

t.test('an active customer can order, and the directory is asked once', async t => {
  const { directory, place, app } = await start(t, says('active'))
  const check = app.customers.check('über/uns?')
  t.type(check, Promise)
  t.equal(await check, 'active')
  t.equal((await place('über/uns?')).status, 201)
  t.equal(app.customers.check('über/uns?'), 'active', 'a known customer is answered at once, without a promise')
  t.match(directory.received, [{ method: 'GET', path: '/customers/%C3%BCber%2Funs%3F', headers: { authorization: 'Bearer hunter2', 'x-request-timeout-ms': /^\d+$/ } }])
  t.equal(directory.received.length, 1)
})

for (const [what, behaviour, type] of [['suspended', says('suspended'), 'customer-suspended'], ['unknown', knowsNobody, 'customer-unknown']] as const) {
  t.test(`a customer who is ${what} is refused, and nothing is stored`, async t => {
    const { place, sql, app } = await start(t, behaviour)
    const customer = randomUUID()
    const { status, body } = await place(customer)
    t.equal(status, 403)
    t.match(body, { type: `/problems/${type}`, status: 403, detail: /This request stored nothing\.$/ })
    t.equal(app.customers.check(customer), what)
    t.equal((await sql.query('SELECT FROM orders WHERE customer = $1', [customer])).rowCount, 0)
  })
}

t.test('an invalid order is refused without asking the directory', async t => {
  const { directory, ask, token } = await start(t, says('active'))
  t.equal((await ask('POST', '/orders', { token: token('bob'), body: {} })).status, 400)
  t.equal((await ask('GET', '/orders', { token: token('bob') })).status, 200)
  t.equal(directory.received.length, 0)
})

t.test('a customer whose name would lead to another path is unknown, without asking the directory', async t => {
  const { directory, place } = await start(t, says('active'))
  t.match((await place('..')).body, { type: '/problems/customer-unknown' })
  t.equal(directory.received.length, 0)
})

t.test('concurrent orders of one customer ask the directory once', async t => {
  const { directory, place } = await start(t, (request, response) => {
    holding.push(() => response.writeHead(200).end(JSON.stringify({ id: 'dora', status: 'active' })))
  })
  const holding: Array<() => void> = []
  const placed = Promise.all(Array.from({ length: 5 }, () => place('dora')))
  await directory.reached(1)
  for (const answer of holding) answer()
  t.same((await placed).map(({ status }) => status), [201, 201, 201, 201, 201])
  t.equal(directory.received.length, 1)
})

for (const [what, behaviour] of Object.entries<Behaviour>({ fails: () => ({ status: 500 }), 'answers for somebody else': () => ({ status: 200, body: { id: 'eve', status: 'active' } }), 'refuses the token': () => ({ status: 401 }) })) {
  t.test(`an order is not started while the directory ${what}, or is placed if the check is tolerant`, async t => {
    const required = await start(t, behaviour)
    const refused = await required.place('frank')
    t.equal(refused.status, 503)
    t.match(refused.body, { type: '/problems/not-started', detail: /directory of customers does not answer\. Nothing was stored/ })
    const tolerant = await start(t, behaviour, { CUSTOMER_CHECK: 'tolerant' })
    t.equal((await tolerant.place('frank')).status, 201)
    tolerant.directory.behave(says('suspended'))
    t.equal((await tolerant.place('grace')).status, 403, 'what the directory says still counts')
  })
}

t.test('a directory that never answers holds up only new orders, and no stop', async t => {
  const { app, directory, place, ask, token } = await start(t, hangs, { CUSTOMERS_TIMEOUT_MS: '60000' })
  const held = Array.from({ length: 100 }, (_, index) => place(`held ${index}`))
  await directory.reached(64)
  for (const path of ['/products', '/orders', '/livez', '/readyz']) t.equal((await ask('GET', path, { token: token('heidi') })).status, 200, path)
  await directory.stop()
  t.same([...new Set((await Promise.all(held)).map(({ status }) => status))], [503])

  const stopping = await start(t, hangs, { CUSTOMERS_TIMEOUT_MS: '300' })
  const last = stopping.place('ivan')
  await stopping.directory.reached(1)
  t.equal((await stopping.app.drain.start('test')).exitCode, 0)
  t.match((await last).body, { type: '/problems/not-started' })
  t.equal(app.drain.state, 'serving')
})

t.test('a fork can give its own directory, which is closed with the app', async t => {
  let closed = 0
  const { app, ask, token } = await startApp(t, { databaseUrl, customers: { validate: async customer => customer === 'judy' ? 'active' : 'suspended', close: async () => { closed++ } } })
  t.equal((await order(ask, token('judy'))).status, 201)
  t.equal((await order(ask, token('kim'))).status, 403)
  await app.close()
  t.equal(closed, 1)
})

t.test('everybody can order without a directory, and no route has a hook for it', async t => {
  const { app, ask, token } = await startApp(t, { databaseUrl })
  t.equal(app.customers.check('anybody'), 'active')
  t.same(app.customers.mayOrder, [])
  t.equal((await order(ask, token('anybody'))).status, 201)
})

t.test('an answer of the directory counts for 30 s, a refusal for 5 s, and both for five minutes while it is away', async t => {
  const { known, answers, outcomes, pass } = remembering()
  answers.push('active')
  t.equal(await known.check('alice'), 'active')
  pass(29_999)
  t.equal(known.check('alice'), 'active')
  pass(1)
  answers.push('suspended')
  t.equal(await known.check('alice'), 'suspended')
  pass(4_999)
  t.equal(known.check('alice'), 'suspended')
  pass(1)
  t.equal(await known.check('alice'), 'suspended', 'the directory is away')
  t.equal(known.check('alice'), 'suspended', 'it is not asked again at once')
  pass(1_000)
  t.equal(await known.check('alice'), 'suspended')
  pass(300_000 - 6_001)
  t.equal(await known.check('alice'), 'suspended')
  pass(1_000)
  t.equal(await known.check('alice'), 'unavailable', 'after five minutes nothing is known')
  t.equal(await known.check('bob'), 'unavailable')
  answers.push('active')
  t.equal(await known.check('alice'), 'active')
  t.same(outcomes, ['active', 'suspended', 'stale', 'stale', 'stale', 'unavailable', 'unavailable', 'active'])
})

t.test('the cache of customers is bounded, and forgets the one who was asked for longest ago', async t => {
  const { known, answers } = remembering()
  for (let index = 0; index <= 10_000; index++) {
    answers.push('active')
    await known.check(`customer ${index}`)
  }
  t.equal(known.size, 10_000)
  t.equal(known.check('customer 1'), 'active')
  t.equal(await known.check('customer 0'), 'unavailable')
})

function remembering () {
  const answers: CustomerStatus[] = []
  const outcomes: string[] = []
  let now = 0
  const known = new KnownCustomers({
    customers: {
      async validate () {
        const answer = answers.shift()
        if (answer === undefined) throw new NotCalled()
        return answer
      }
    },
    call: () => ({ signal: new AbortController().signal, remainingMs: 1 }),
    onAnswer: outcome => outcomes.push(outcome),
    onFailure: () => {},
    now: () => now
  })
  return { known, answers, outcomes, pass: (ms: number) => { now += ms } }
}

async function order (ask: RunningApp['ask'], token: string) {
  return await ask('POST', '/orders', { token, body: { currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] }, headers: { 'idempotency-key': randomUUID() } })
}

async function start (t: Test, behaviour: Behaviour, settings: AppOverrides['settings'] = {}): Promise<RunningApp & { directory: Called, place: (customer: string) => ReturnType<typeof order> }> {
  const directory = await startCalled(t, behaviour)
  const running = await startApp(t, { databaseUrl, settings: { CUSTOMERS_URL: directory.url, CUSTOMERS_TOKEN: 'hunter2', CUSTOMERS_TIMEOUT_MS: '30000', ...settings } })
  return { ...running, directory, place: customer => order(running.ask, running.token(customer)) }
}
