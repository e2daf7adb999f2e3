import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import fp from 'fastify-plugin'
import type { AddressInfo } from 'node:net'
import type { RegistryConfig } from '../config.ts'

/** How long a registry may take to answer a call, in ms. */
const callTimeoutMs = 1_000

/** What the registry tells the service's clients. */
interface Instance {
  id: string
  name: string
  address: string | undefined
  port: number
}

/** Each call rejects if the registry did not accept it. */
interface Registry {
  /** Safe to repeat. */
  register (): Promise<unknown>
  /** Says that this instance lives, and whether traffic should come here. @returns false if the registry does not know it */
  heartbeat (ready: boolean): Promise<boolean>
  deregister (): Promise<unknown>
}

/**
 * Registers this instance with a service registry once it listens, and deregisters it first of all in a stop. Until that is
 * done the registry sends new clients here, so the service stays ready and goes on accepting.
 *
 * The service serves even if the registry is down, and retries every third of the time to live. A stop deregisters once and does
 * not retry. It waits for at most two calls of a second: the one under way and this one. A failure counts as a failed hook.
 */
export default fp<RegistryConfig>(async (app, config) => {
  app.addHook('onListen', async () => {
    const { port } = app.server.address() as AddressInfo
    const { serviceName: name, address, id = `${name}-${hostname()}-${port}` } = config
    const instance = { id, name, address, port }
    const registry = 'consulUrl' in config ? consul(config, instance) : httpHook(config, instance)
    const leaving = new AbortController()
    const staying = stay()

    app.drain.on('draining', async () => {
      leaving.abort()
      // After a registration under way, which would otherwise undo it.
      const left = staying.then(() => registry.deregister())
      app.health.readyUntil(left)
      await left
      app.log.info({ id }, 'deregistered')
    }, { name: 'deregister' })

    async function stay (): Promise<void> {
      let registered = false
      while (!leaving.signal.aborted) {
        try {
          if (!registered) {
            await registry.register()
            app.log.info({ id }, 'registered')
            registered = true
            continue
          }
          const checks = await app.health.readiness()
          registered = await registry.heartbeat(checks.every(({ ok }) => ok))
        } catch (error) {
          registered = false
          app.log.warn({ err: error }, 'The registry did not accept a call. The service serves nevertheless, and repeats the call.')
        }
        await delay(config.ttlMs / 3, undefined, { signal: leaving.signal, ref: false }).catch(() => {})
      }
    }
  })
}, { name: 'registry', fastify: '5.x', dependencies: ['fastify-drain', 'health'] })

/**
 * The agent of Consul: https://developer.hashicorp.com/consul/api-docs/agent/service and …/agent/check. An instance that is
 * silent for the time to live becomes critical. After a minute of that, the minimum, Consul forgets it.
 */
function consul ({ consulUrl, token, ttlMs }: RegistryConfig & { consulUrl: string }, { id, name, address, port }: Instance): Registry {
  const headers = token === undefined ? {} : { 'x-consul-token': token }
  const put = (path: string, body?: object): Promise<void> => call('PUT', `${consulUrl.replace(/\/$/, '')}/v1/agent/${path}`, headers, body)
  return {
    register: () => put('service/register', {
      ID: id,
      Name: name,
      // Default: the agent's own.
      ...address !== undefined && { Address: address },
      Port: port,
      Check: { TTL: `${ttlMs}ms`, DeregisterCriticalServiceAfter: '1m' }
    }),
    heartbeat: ready => isKnown(put(`check/${ready ? 'pass' : 'fail'}/service:${encodeURIComponent(id)}`)),
    deregister: () => isKnown(put(`service/deregister/${encodeURIComponent(id)}`))
  }
}

/** Two URLs of the operator's, each called with `{ id, name, address, port }`. */
function httpHook ({ registerUrl, deregisterUrl, token }: RegistryConfig & { registerUrl: string, deregisterUrl: string }, instance: Instance): Registry {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  const body = { ...instance, address: instance.address ?? hostname() }
  return {
    register: () => call('POST', registerUrl, headers, body),
    heartbeat: async () => true,
    deregister: () => isKnown(call('POST', deregisterUrl, headers, body))
  }
}

class Refusal extends Error {
  readonly status: number

  constructor (call: string, status: number) {
    super(`The registry answered ${call} with ${status}.`)
    this.name = 'Refusal'
    this.status = status
  }
}

/** @throws Refusal, or another Error if the registry may have accepted it */
async function call (method: string, url: string, headers: Record<string, string>, body?: object): Promise<void> {
  // Without the query, which may hold a secret.
  const request = `${method} ${url.replace(/\?.*/, '')}`
  let response
  try {
    response = await fetch(url, {
      method,
      headers: { ...headers, ...body !== undefined && { 'content-type': 'application/json' } },
      body: body === undefined ? null : JSON.stringify(body),
      // A redirect would send the token elsewhere.
      redirect: 'error',
      signal: AbortSignal.timeout(callTimeoutMs)
    })
    // Reads to the end, so that the next call can reuse the connection.
    await response.arrayBuffer()
  } catch (error) {
    throw new Error(`The registry did not answer ${request} (${reasonOf(error)}). It may have accepted it.`, { cause: error })
  }
  if (!response.ok) throw new Refusal(request, response.status)
}

/** @returns false if the registry says that it does not know the instance */
async function isKnown (answer: Promise<void>): Promise<boolean> {
  try {
    await answer
    return true
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return false
    throw error
  }
}

/** fetch() only says that it failed; its cause has the reason. */
function reasonOf (error: unknown): string {
  const { cause } = error as { cause?: { code?: string } }
  return cause?.code ?? (error instanceof Error ? error.message : String(error))
}
