import { EventEmitter, once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

export interface ConsulKv {
  host: string
  token: string
  /** The query string of each request. */
  queries: string[]
  put (key: string, value: string): void
  delete (key: string): void
  /** Sets the index back, as the restore of an older snapshot does. */
  resetIndex (): void
  /** Ends the blocking queries at once, as when their wait is over. */
  endWaits (): void
}

/**
 * A stand-in for the part of Consul's API that reads a prefix of the KV store, as it is documented:
 * https://developer.hashicorp.com/consul/api-docs/kv#read-key and …/api-docs/features/blocking. The index is of the whole store, as
 * Consul's is at its coarsest, so that a change elsewhere ends a blocking query, too. It refuses everything else.
 */
export async function startConsulKv (t: Test): Promise<ConsulKv> {
  const pairs = new Map<string, { value: string, createIndex: number, modifyIndex: number }>()
  const changed = new EventEmitter()
  changed.setMaxListeners(0)
  let index = 10

  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? '', 'http://consul')
    consul.queries.push(url.search)
    if (request.headers['x-consul-token'] !== consul.token) {
      response.writeHead(403, { 'content-type': 'text/plain' }).end('Permission denied')
      return
    }
    const [, key] = /^\/v1\/kv\/(.*)$/.exec(decodeURIComponent(url.pathname)) ?? []
    if (request.method !== 'GET' || key === undefined || !url.searchParams.has('recurse')) {
      response.writeHead(405).end()
      return
    }
    const asked = Number(url.searchParams.get('index') ?? 0)
    const [, seconds] = /^(\d+)s$/.exec(url.searchParams.get('wait') ?? '300s') ?? []
    if (asked >= index) await Promise.race([once(changed, 'change'), delay(Number(seconds) * 1_000, undefined, { ref: false })])
    if (request.socket.destroyed) return
    const found = [...pairs].filter(([name]) => name.startsWith(key)).map(([Key, { value, createIndex, modifyIndex }]) => ({
      LockIndex: 0, Key, Flags: 0, Value: value === '' ? null : Buffer.from(value).toString('base64'), CreateIndex: createIndex, ModifyIndex: modifyIndex
    }))
    response.writeHead(found.length === 0 ? 404 : 200, { 'content-type': 'application/json', 'x-consul-index': String(index), 'x-consul-knownleader': 'true', 'x-consul-lastcontact': '0' })
    response.end(found.length === 0 ? '' : JSON.stringify(found))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.closeAllConnections()
    await once(server.close(), 'close')
  })

  const consul: ConsulKv = {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    token: 'a token of the prefix',
    queries: [],
    put (key, value) {
      index++
      pairs.set(key, { value, createIndex: pairs.get(key)?.createIndex ?? index, modifyIndex: index })
      changed.emit('change')
    },
    delete (key) {
      index++
      pairs.delete(key)
      changed.emit('change')
    },
    resetIndex () {
      index = 1
      changed.emit('change')
    },
    endWaits () {
      changed.emit('change')
    }
  }
  return consul
}
