import { Readable } from 'node:stream'
import fp from 'fastify-plugin'
import { tagsOf } from '../routes/headers.ts'
import { Problem } from './errors.ts'
import type { FastifyRequest } from 'fastify'

export type Precondition = 'if-match' | 'if-none-match'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The preconditions that a writing route checks itself, in the database. Others are refused. */
    preconditions?: Precondition[]
  }
}

/**
 * Ignores no precondition (RFC 9110 section 13.1): the client that sent it relies on it. A read is judged by the ETag of its
 * answer. A write is judged by its route, or refused.
 */
export default fp(async app => {
  // After the token's check: a client without access learns nothing more.
  app.addHook('preValidation', (request, _reply, done) => {
    const { preconditions = [] } = request.routeOptions.config
    for (const name of ['if-match', 'if-none-match'] as const) {
      if (request.headers[name] === undefined) continue
      if (isRead(request.method)) tagsOf(request.headers, name)
      else if (!preconditions.includes(name)) throw new Problem('invalid-request', `${request.method} ${request.routeOptions.url ?? request.url} takes no ${nameOf(name)}. Nothing was changed.`)
    }
    done()
  })

  app.addHook('onSend', (request, reply, payload, done) => {
    const failed = isRead(request.method) && reply.statusCode === 200 ? failedCondition(request, reply.getHeader('etag')) : undefined
    if (failed === undefined) return done(null, payload)
    if (payload instanceof Readable) payload.destroy()
    if (failed === 'if-match') return done(new Problem('version-mismatch', 'If-Match does not name the current version.'))
    reply.code(304).removeHeader('content-type').removeHeader('content-length')
    // For a HEAD, Fastify takes Content-Length from the payload and then drops the payload.
    done(null, request.method === 'HEAD' ? payload : null)
  })
}, { name: 'preconditions', fastify: '5.x' })

/** Which of its preconditions a read fails. If-Match compares strongly, If-None-Match weakly. */
function failedCondition ({ headers }: FastifyRequest, etag: unknown): Precondition | undefined {
  const ifMatch = tagsOf(headers, 'if-match')
  if (Array.isArray(ifMatch) && !ifMatch.some(tag => tag === etag)) return 'if-match'
  const ifNoneMatch = tagsOf(headers, 'if-none-match')
  if (ifNoneMatch === 'any' || ifNoneMatch?.some(tag => tag.replace(/^W\//, '') === etag) === true) return 'if-none-match'
  return undefined
}

function isRead (method: string): boolean {
  return method === 'GET' || method === 'HEAD'
}

function nameOf (name: Precondition): string {
  return name === 'if-match' ? 'If-Match' : 'If-None-Match'
}
