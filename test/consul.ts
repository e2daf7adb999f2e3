import { EventEmitter, once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface ConsulService {
  ID: string
  Name: string
  Address: string
  Port: number
  check: { status: 'passing' | 'critical', ttl: string, deregisterAfter: string }
}

export interface Consul {
  url: string
  /** The answered calls, as `check/pass/service:id`; a refused call ends with its status. */
  calls: string[]
  services: Map<string, ConsulService>
  /** Resolves when a past or future call matches. */
  called (pattern: RegExp): Promise<void>
  /** Each call waits for this before it has any effect. */
  before: (call: string) => unknown
  stop (): Promise<void>
}

interface Answer {
  status: number
  text: string
}

export const consulToken = 'a token of Consul'

/**
 * A stand-in for the part of Consul's agent API that manages a service and its TTL check, as documented in
 * https://developer.hashicorp.com/consul/api-docs/agent/service and …/agent/check. It refuses everything else.
 */
export async function startConsul (t: { teardown (end: () => Promise<unknown>): unknown }, { port = 0 } = {}): Promise<Consul> {
  const made = new EventEmitter()
  const services = new Map<string, ConsulService>()
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '', 'http://consul').pathname)
    const call = path.replace('/v1/agent/', '')
    const body = await bodyOf(request)
    await consul.before(call)
    const { status, text } = request.headers['x-consul-token'] === consulToken ? answer(request.method, call, body) : { status: 403, text: 'Permission denied' }
    consul.calls.push(status === 200 ? call : `${call} ${status}`)
    made.emit('call')
    response.writeHead(status).end(text)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')

  function answer (method: string | undefined, call: string, body: string): Answer {
    const [, endpoint, id = ''] = /^(service\/register$|service\/deregister\/|check\/pass\/|check\/fail\/)(.*)$/.exec(call) ?? []
    if (endpoint === undefined) return { status: 404, text: '' }
    if (method !== 'PUT') return { status: 405, text: `method ${method} not allowed` }
    if (endpoint === 'service/register') return register(body)
    if (endpoint === 'service/deregister/') {
      return services.delete(id) ? { status: 200, text: '' } : { status: 404, text: `Unknown service ID ${JSON.stringify(id)}. Ensure that the service ID is passed, not the service name.` }
    }
    const service = services.get(id.replace(/^service:/, ''))
    if (service === undefined || !id.startsWith('service:')) return { status: 404, text: `Unknown check ID ${JSON.stringify(id)}. Ensure that the check ID is passed, not the check name.` }
    service.check.status = endpoint === 'check/pass/' ? 'passing' : 'critical'
    return { status: 200, text: '' }
  }

  function register (body: string): Answer {
    const definition: unknown = JSON.parse(body)
    const fault = faultOf(definition)
    if (fault !== undefined) return { status: 400, text: `Request decode failed: ${fault}` }
    const { ID, Name, Address = '', Port = 0, Check } = definition as { ID: string, Name: string, Address?: string, Port?: number, Check: Record<string, string> }
    const status = services.get(ID)?.check.status ?? 'critical'
    services.set(ID, { ID, Name, Address, Port, check: { status, ttl: Check.TTL ?? '', deregisterAfter: Check.DeregisterCriticalServiceAfter ?? '' } })
    return { status: 200, text: '' }
  }

  const consul: Consul = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls: [],
    services,
    before: () => {},
    async called (pattern) {
      while (!consul.calls.some(call => pattern.test(call))) await once(made, 'call')
    },
    stop: async () => {
      server.closeAllConnections()
      if (server.listening) await once(server.close(), 'close')
    }
  }
  t.teardown(() => consul.stop())
  return consul
}

const kinds: Record<string, (value: unknown) => boolean> = {
  ID: isText,
  Name: isText,
  Address: isText,
  Port: value => Number.isInteger(value),
  Check: value => typeof value === 'object' && value !== null,
  TTL: isDuration,
  DeregisterCriticalServiceAfter: isDuration
}

function faultOf (definition: unknown): string | undefined {
  if (typeof definition !== 'object' || definition === null) return 'no object'
  if (!('Name' in definition)) return 'Missing service name'
  for (const [field, value] of Object.entries(definition)) {
    if (kinds[field]?.(value) !== true) return `invalid field ${field}`
    if (field === 'Check') for (const [of, setting] of Object.entries(value as object)) if (kinds[of]?.(setting) !== true) return `invalid field Check.${of}`
  }
  return undefined
}

function isText (value: unknown): boolean {
  return typeof value === 'string'
}

/** In the format of Go. */
function isDuration (value: unknown): boolean {
  return typeof value === 'string' && /^(\d+(\.\d+)?(ns|us|ms|s|m|h))+$/.test(value)
}

async function bodyOf (request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}
