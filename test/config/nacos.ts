import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

export interface Nacos {
  host: string
  /** `username:password` */
  token: string
  logins: number
  /** The `tenant` '' is the default namespace. */
  publish (place: { tenant: string, group: string, dataId: string }, content: string): void
  remove (place: { tenant: string, group: string, dataId: string }): void
}

/**
 * A stand-in for the part of Nacos's open API that reads a configuration and listens for its changes, with authentication on, as
 * it is documented: https://nacos.io/en/docs/v2/guide/user/open-api/ and …/guide/user/auth/. It refuses everything else.
 */
export async function startNacos (t: Test): Promise<Nacos> {
  const documents = new Map<string, string>()
  const changed = new EventEmitter()
  const keyOf = ({ tenant, group, dataId }: { tenant: string, group: string, dataId: string }): string => [tenant, group, dataId].join('\x02')
  const md5Of = (key: string): string => {
    const content = documents.get(key)
    return content === undefined ? '' : createHash('md5').update(content).digest('hex')
  }

  async function answer (request: IncomingMessage): Promise<[status: number, body: string]> {
    const url = new URL(request.url ?? '', 'http://nacos')
    const body = new URLSearchParams(await text(request))
    if (request.method === 'POST' && url.pathname === '/nacos/v1/auth/login') {
      nacos.logins++
      if (`${body.get('username')}:${body.get('password')}` !== nacos.token) return [403, 'unknown user!']
      return [200, JSON.stringify({ accessToken: 'an access token', tokenTtl: 18_000, globalAdmin: false })]
    }
    if (url.searchParams.get('accessToken') !== 'an access token') return [403, 'user not found!']
    if (request.method === 'GET' && url.pathname === '/nacos/v1/cs/configs') {
      const [dataId, group, tenant] = ['dataId', 'group', 'tenant'].map(name => url.searchParams.get(name) ?? '')
      if (dataId === undefined || dataId === '' || group === undefined || group === '') return [400, 'caused: Required request parameter is not present;']
      const content = documents.get(keyOf({ tenant: tenant ?? '', group, dataId }))
      return content === undefined ? [404, 'config data not exist'] : [200, content]
    }
    if (request.method === 'POST' && url.pathname === '/nacos/v1/cs/configs/listener') {
      const timeoutMs = Number(request.headers['long-pulling-timeout'])
      const listened = (body.get('Listening-Configs') ?? '').split('\x01').filter(one => one !== '').map(one => one.split('\x02'))
      if (listened.length === 0 || !(timeoutMs > 0)) return [400, 'invalid probeModify']
      const different = (): string => listened.filter(([dataId = '', group = '', md5 = '', tenant = '']) => md5Of(keyOf({ tenant, group, dataId })) !== md5)
        .map(([dataId = '', group = '', , tenant = '']) => encodeURIComponent([dataId, group, ...tenant === '' ? [] : [tenant]].join('\x02') + '\x01')).join('')
      const over = delay(timeoutMs, 'over', { ref: false })
      while (different() === '' && await Promise.race([once(changed, 'change'), over]) !== 'over');
      return [200, different()]
    }
    return [404, '']
  }

  const server = createServer((request, response) => {
    void answer(request).then(([status, body]) => response.writeHead(status).end(body))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.closeAllConnections()
    await once(server.close(), 'close')
  })

  const nacos: Nacos = {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    token: 'orders:a password',
    logins: 0,
    publish (place, content) {
      documents.set(keyOf(place), content)
      changed.emit('change')
    },
    remove (place) {
      documents.delete(keyOf(place))
      changed.emit('change')
    }
  }
  return nacos
}
