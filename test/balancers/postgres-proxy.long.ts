import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { missing, Program } from '../../verify/program.ts'
import { freePort } from '../../verify/free-port.ts'
import { Cluster } from '../../verify/postgres/cluster.ts'
import type { PostgresServer } from '../../verify/postgres/server.ts'
import { withClient } from '../../postgres/with-client.ts'
import { startService, type Service } from '../service.ts'

t.test('a failover behind deploy/haproxy/postgres.cfg, with one host in DATABASE_URL, loses no acknowledged order', { skip: missing('haproxy') ?? false }, async t => {
  const cluster = await Cluster.create({ log: join(t.testdir(), 'postgres.log') })
  t.teardown(() => cluster.close())
  await cluster.addStandby()
  const [old, standby] = [cluster.primary, cluster.standby]
  if (standby === undefined) throw new Error('There is no standby.')

  const port = await freePort()
  const stats = await freePort()
  const nobody = await freePort()
  const haproxy = await Program.start({
    command: 'haproxy',
    args: ['-db', '-f', join(import.meta.dirname, '../../deploy/haproxy/postgres.cfg')],
    env: {
      BIND: `127.0.0.1:${port}`,
      STATS_SOCKET: `127.0.0.1:${stats}`,
      // The standby comes first, because the sequence must not matter.
      POSTGRES_1: `127.0.0.1:${standby.port}`,
      PATRONI_1: String(await leaderCheck(t, standby)),
      POSTGRES_2: `127.0.0.1:${old.port}`,
      PATRONI_2: String(await leaderCheck(t, old)),
      POSTGRES_3: `127.0.0.1:${nobody}`,
      PATRONI_3: String(nobody)
    },
    log: join(t.testdir(), 'haproxy.log')
  })
  t.teardown(() => haproxy.close())
  await haproxy.until('lead to the primary alone', async () => await leadsOnlyTo(cluster, port, old))

  const service = await startService(t, { DATABASE_URL: cluster.urlAt(port) })
  await cluster.primary.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)", [], cluster.database)
  const acknowledged: string[] = []
  const place = async (): Promise<void> => {
    const key = randomUUID()
    if (await places(service, key)) acknowledged.push(key)
  }
  for (let n = 0; n < 20; n++) await place()
  t.equal(acknowledged.length, 20)
  const during = Promise.all(Array.from({ length: 20 }, place))
  await cluster.failOver()
  await during
  const before = acknowledged.length
  while (acknowledged.length < before + 20) await place()
  await haproxy.until('lead to the promoted standby alone', async () => await leadsOnlyTo(cluster, port, standby))
  const stored = (await cluster.primary.query<{ key: string }>('SELECT idempotency_key AS key FROM orders', [], cluster.database)).map(({ key }) => key)
  t.same(acknowledged.filter(key => !stored.includes(key)), [])
})

/** It connects several times, because HAProxy counts every server as up until its first check and lets them take turns. */
async function leadsOnlyTo (cluster: Cluster, port: number, server: PostgresServer): Promise<boolean> {
  for (let connection = 0; connection < 6; connection++) if (await leadsTo(cluster, port) !== server.port) return false
  return true
}

/** Answers HAProxy's check as Patroni does on each server's host: 200 if this server is the primary. */
async function leaderCheck (t: Test, server: PostgresServer): Promise<number> {
  const check = createServer((request, response) => {
    server.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby').then(
      ([row]) => response.writeHead(request.method === 'OPTIONS' && request.url === '/primary' && row?.standby === false ? 200 : 503).end(),
      () => response.writeHead(503).end())
  })
  check.listen(0, '127.0.0.1')
  await once(check, 'listening')
  t.teardown(() => check.close())
  return (check.address() as AddressInfo).port
}

/** The port of the server that answers behind the proxy; undefined if none does. */
async function leadsTo (cluster: Cluster, port: number): Promise<number | undefined> {
  return await withClient(cluster.urlAt(port), async client => (await client.query<{ port: number }>('SELECT inet_server_port() AS port')).rows[0]?.port).catch(() => undefined)
}

/** Posts an order, and returns whether it was acknowledged. */
async function places (service: Service, key: string): Promise<boolean> {
  const response = await fetch(`${service.url}/orders`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token('alice')}`, 'idempotency-key': key, 'content-type': 'application/json' },
    body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 1 }] })
  })
  if (response.status !== 201) await delay(50)
  return response.status === 201
}
