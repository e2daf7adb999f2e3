import { get as getPlain } from 'node:http'
import { get as getSecure } from 'node:https'
import fp from 'fastify-plugin'
import { remembered } from './remembered.ts'

/** How long an answer counts, and how long it may take, in ms. */
const maxAgeMs = 10_000
const timeoutMs = 1_000

export interface IssuerHealth {
  ok: boolean
  /** Why not, as a clause. */
  reason?: string
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Of the tokens; not there where the service checks them with a secret of its own. */
    issuer?: {
      /** Whether it gives its keys now. Those that are known are kept: tokens are checked all the same. */
      health (): Promise<IssuerHealth>
    }
  }
}

export default fp<{ jwksUrl: string }>(async (app, { jwksUrl }) => {
  app.decorate('issuer', { health: remembered(maxAgeMs, async () => await ask(jwksUrl)) })
}, { name: 'issuer', fastify: '5.x' })

/** Not by fetch(), which keeps its connections: a stop would leave one behind. */
async function ask (url: string): Promise<IssuerHealth> {
  return await new Promise(resolve => {
    const fail = (reason: string): void => resolve({ ok: false, reason })
    const asked = (url.startsWith('https:') ? getSecure : getPlain)(url, { agent: false, headers: { connection: 'close' }, signal: AbortSignal.timeout(timeoutMs) }, response => {
      response.destroy()
      const { statusCode = 0 } = response
      if (statusCode < 400) resolve({ ok: true })
      else fail(`AUTH_JWKS_URL answered ${statusCode}`)
    })
    asked.on('error', error => fail(error.name === 'AbortError' ? `AUTH_JWKS_URL did not answer within ${timeoutMs} ms` : `AUTH_JWKS_URL cannot be reached: ${'code' in error ? String(error.code) : error.message}`))
  })
}
