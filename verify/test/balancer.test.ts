import { once } from 'node:events'
import { createServer, get, type Server } from 'node:http'
import { type AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { balancerMissing, balancerNames, startBalancer } from '../balancer.ts'
import { freePort } from '../free-port.ts'

async function listen (t: Test) {
  const instance = { ready: true, checks: 0 }
  const server = createServer((request, response) => {
    if (request.url !== '/ready') {
      response.end(String((server.address() as AddressInfo).port))
      return
    }
    instance.checks++
    response.writeHead(instance.ready ? 204 : 503).end()
    server.emit('checked')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => close(server))
  // A port without a listener: an agent that cannot be reached is no fault.
  return { port: (server.address() as AddressInfo).port, agentPort: await freePort(), server, instance }
}

function close (server: Server): void {
  server.close()
  server.closeAllConnections()
}

/** The ports of the instances that answer, and how many requests fail. Each request has a connection of its own. */
async function ask (url: string, times: number): Promise<{ ports: Set<number>, failed: number }> {
  const ports = new Set<number>()
  let failed = 0
  for (; times > 0; times--) {
    const port = await new Promise<number>(resolve => {
      get(url, { agent: false }, response => { text(response).then(body => resolve(response.statusCode === 200 ? Number(body) : 0)) }).on('error', () => resolve(0))
    })
    if (port === 0) failed++
    else ports.add(port)
  }
  return { ports, failed }
}

for (const name of balancerNames) {
  t.test(`${name}, in front of three instances`, { skip: balancerMissing(name) ?? false }, async t => {
    const [one, two, three] = [await listen(t), await listen(t), await listen(t)]
    const balancer = await startBalancer(name, { instances: [one, two, three], readiness: '/ready', directory: t.testdir() })
    t.teardown(() => balancer.close())
    const all = new Set([one.port, two.port, three.port])

    await t.test('the balancer routes requests to all instances', async t => {
      await balancer.allUp()
      t.same(await ask(balancer.url, 12), { ports: all, failed: 0 })
    })

    await t.test('an instance that leaves and still serves soon gets no more requests, and gets them again once it is back', async t => {
      one.instance.ready = false
      await balancer.takeOut(0)
      for (;;) {
        const { ports, failed } = await ask(balancer.url, 12)
        t.equal(failed, 0)
        if (!ports.has(one.port)) break
      }
      one.instance.ready = true
      await balancer.allUp()
      // An instance that is back gets little traffic at first.
      for (;;) {
        const { ports, failed } = await ask(balancer.url, 12)
        t.equal(failed, 0)
        if (ports.has(one.port)) break
      }
    })

    await t.test('a request to an instance that is suddenly gone fails, because the balancer does not retry', async t => {
      close(two.server)
      while ((await ask(balancer.url, 1)).failed === 0);
    })
  })

  t.test(`${name} says why it cannot start`, { skip: balancerMissing(name) ?? false }, async t => {
    const instances = [70_000, 70_000, 70_000].map(port => ({ port, agentPort: 1 }))
    const balancer = await startBalancer(name, { instances, readiness: '/', directory: t.testdir() })
    t.teardown(() => balancer.close())
    await t.rejects(balancer.allUp(), /(haproxy|nginx) ended with 1\.[^]*(invalid port|port out of range)/i)
  })
}

t.test('the balancer settings accept three instances, and no other number', async t => {
  await t.rejects(startBalancer('nginx', { instances: [], readiness: '/', directory: t.testdir() }), RangeError)
})
