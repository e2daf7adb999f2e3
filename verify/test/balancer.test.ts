import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { Balancer, balancerMissing } from '../balancer.ts'

async function listen (t: Test, port = 0) {
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
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => close(server))
  return { ...(server.address() as AddressInfo), server, instance }
}

function close (server: Server): void {
  server.close()
  server.closeAllConnections()
}

/** Who answers, by their ports, and the statuses. */
async function ask (url: string, times: number): Promise<{ ports: Set<number>, statuses: Set<number> }> {
  const ports = new Set<number>()
  const statuses = new Set<number>()
  for (; times > 0; times--) {
    const response = await fetch(url, { method: 'POST' })
    const text = await response.text()
    statuses.add(response.status)
    if (response.ok) ports.add(Number(text))
  }
  return { ports, statuses }
}

t.test('in front of two instances', { skip: balancerMissing() ?? false }, async t => {
  const [one, two] = [await listen(t), await listen(t)]
  const balancer = await Balancer.start({ ports: [one.port, two.port], readiness: '/ready', directory: t.testdir() })
  t.teardown(() => balancer.close())

  await t.test('both are asked', async t => {
    await balancer.allUp()
    t.same(await ask(balancer.url, 10), { ports: new Set([one.port, two.port]), statuses: new Set([200]) })
  })

  await t.test('one that is not ready, and serves, is asked no more, and again when it is', async t => {
    one.instance.ready = false
    // The third: then the second has been judged.
    const before = one.instance.checks
    while (one.instance.checks < before + 3) await once(one.server, 'checked')
    t.same(await ask(balancer.url, 10), { ports: new Set([two.port]), statuses: new Set([200]) })
    let isAllUp = false
    const allUp = balancer.allUp().then(() => { isAllUp = true })
    while (one.instance.checks < before + 5) await once(one.server, 'checked')
    t.equal(isAllUp, false)
    one.instance.ready = true
    await allUp
    t.same(await ask(balancer.url, 10), { ports: new Set([one.port, two.port]), statuses: new Set([200]) })
  })

  await t.test('a request for one that is suddenly gone fails: nothing is tried again', async t => {
    close(one.server)
    const { ports, statuses } = await ask(balancer.url, 4)
    t.same(ports, new Set([two.port]))
    t.same(statuses, new Set([200, 503]))
  })
})

t.test('it says why where HAProxy cannot do its work', { skip: balancerMissing() ?? false }, async t => {
  const balancer = await Balancer.start({ ports: [], readiness: '/not\na path', directory: t.testdir() })
  t.teardown(() => balancer.close())
  await t.rejects(balancer.allUp(), /HAProxy ended with 1[^]*unknown keyword 'a'/)
})
