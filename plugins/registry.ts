import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import fp from 'fastify-plugin'
import type { AddressInfo } from 'node:net'
import type { RegistryConfig } from '../config.ts'

/** How long a registry may take to answer a call, in ms. */
const callTimeoutMs = 1_000

/** What is told of this service to those who look for one. */
interface Instance {
  id: string
  name: string
  address: string | undefined
  port: number
}

/** Each call rejects where the registry did not take it. */
interface Registry {
  /** Harmless when repeated. */
  register (): Promise<unknown>
  /** Says that this instance lives, and whether traffic should come here. False where the registry does not know it. */
  heartbeat (ready: boolean): Promise<boolean>
  deregister (): Promise<unknown>
}

/**
 * Enters this instance into a service registry when it listens, and takes it out first of all when it stops: readiness holds
 * and the service goes on accepting until that is done, as until then the registry sends new clients here.
 *
 * A registry that is down keeps nothing from being served: it is told again every third of the time to live. In a stop it is
 * told once. Two calls of a second at most, one that was under way and that one, hold the stop; a failure is that of a hook.
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
      // Not before a registration that is under way, which would outlive it.
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
          app.log.warn({ err: error }, 'The registry did not take what it was told. The service serves all the same, and tells it again.')
        }
        await delay(config.ttlMs / 3, undefined, { signal: leaving.signal, ref: false }).catch(() => {})
      }
    }
  })
}, { name: 'registry', fastify: '5.x', dependencies: ['fastify-drain', 'health'] })

/**
 * The agent of Consul: https://developer.hashicorp.com/consul/api-docs/agent/service and …/agent/check. An instance that it has
 * not heard of for the time to live is critical; after a minute of that, the least it allows, it forgets the instance.
 */
function consul ({ consulUrl, token, ttlMs }: RegistryConfig & { consulUrl: string }, { id, name, address, port }: Instance): Registry {
  const headers = token === undefined ? {} : { 'x-consul-token': token }
  const put = (path: string, body?: object): Promise<void> => call('PUT', `${consulUrl.replace(/\/$/, '')}/v1/agent/${path}`, headers, body)
  return {
    register: () => put('service/register', {
      ID: id,
      Name: name,
      // Without one, Consul gives the agent's own.
      ...address !== undefined && { Address: address },
      Port: port,
      Check: { TTL: `${ttlMs}ms`, DeregisterCriticalServiceAfter: '1m' }
    }),
    heartbeat: ready => isKnown(put(`check/${ready ? 'pass' : 'fail'}/service:${encodeURIComponent(id)}`)),
    deregister: () => isKnown(put(`service/deregister/${encodeURIComponent(id)}`))
  }
}

/** Two URLs of one's own, each told `{ id, name, address, port }`. */
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

  constructor (told: string, status: number) {
    super(`The registry answered ${told} with ${status}.`)
    this.name = 'Refusal'
    this.status = status
  }
}

/** @throws Refusal, or an Error where it is not known whether the registry took it */
async function call (method: string, url: string, headers: Record<string, string>, body?: object): Promise<void> {
  // A query may hold a secret.
  const told = `${method} ${url.replace(/\?.*/, '')}`
  let response
  try {
    response = await fetch(url, {
      method,
      headers: { ...headers, ...body !== undefined && { 'content-type': 'application/json' } },
      body: body === undefined ? null : JSON.stringify(body),
      // It would take the token along.
      redirect: 'error',
      signal: AbortSignal.timeout(callTimeoutMs)
    })
    // To its end, for the next call to have the connection.
    await response.arrayBuffer()
  } catch (error) {
    throw new Error(`The registry did not answer ${told} (${reasonOf(error)}); it may have taken it.`, { cause: error })
  }
  if (!response.ok) throw new Refusal(told, response.status)
}

/** False where the registry says that it knows no such instance. */
async function isKnown (told: Promise<void>): Promise<boolean> {
  try {
    await told
    return true
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return false
    throw error
  }
}

/** fetch() says no more than that it failed; its cause has the reason. */
function reasonOf (error: unknown): string {
  const { cause } = error as { cause?: { code?: string } }
  return cause?.code ?? (error instanceof Error ? error.message : String(error))
}
