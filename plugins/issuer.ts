import fp from 'fastify-plugin'
import { fetchKeys } from '../auth/issuer-keys.ts'
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
    /** The issuer of the tokens; absent if the service checks them with a secret of its own. */
    issuer?: {
      /** Whether it gives its keys now. If it does not, the known keys still check tokens. */
      health (): Promise<IssuerHealth>
    }
  }
}

export default fp<{ jwksUrl: string }>(async (app, { jwksUrl }) => {
  app.decorate('issuer', { health: remembered(maxAgeMs, async () => await ask(jwksUrl)) })
}, { name: 'issuer', fastify: '5.x' })

async function ask (url: string): Promise<IssuerHealth> {
  try {
    await fetchKeys(url, timeoutMs)
    return { ok: true }
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) }
  }
}
