import fp from 'fastify-plugin'
import { Problem } from './errors.ts'
import type { IncomingMessage } from 'node:http'

/** Node takes the first of these; a proxy before the service may take the last. */
const singular: ReadonlySet<string> = new Set(['authorization', 'content-type', 'host'])
/** Few other names have such a length, so most need no closer look. */
const lengths: ReadonlySet<number> = new Set([...singular].map(name => name.length))

/** A host and a port by RFC 3986 section 3.2, without a user. */
const authority = /^(\[[0-9a-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?$/i

/**
 * Refuses a head that two readers could read in two ways, or that asks for something that the service does not do. It answers with
 * a problem: Node would answer some of these by itself, with an empty body.
 */
export default fp(async app => {
  const unmet = new WeakSet<IncomingMessage>()
  app.server.on('checkExpectation', (request, response) => {
    unmet.add(request)
    app.server.emit('request', request, response)
  })

  app.addHook('onRequest', (request, _reply, done) => {
    const { raw } = request
    const [status, fault] = faultOf(raw) ?? (unmet.has(raw) ? [417, 'The service supports only the expectation 100-continue.'] : [])
    if (fault === undefined) return done()
    done(new Problem('invalid-request', `${fault} Nothing was stored.`, status === undefined ? {} : { status }))
  })
}, { name: 'strict-heads', fastify: '5.x' })

/** Host: RFC 9112 section 3.2; the others: RFC 9110 section 5.3. */
function faultOf ({ rawHeaders, headers: { host }, httpVersion }: IncomingMessage): [status: number, fault: string] | undefined {
  if (host === undefined) return httpVersion === '1.0' ? undefined : [400, 'The request has no Host.']
  if (!authority.test(host)) return [400, 'Host is not a name or an address, with or without a port.']
  const seen: string[] = []
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const written = rawHeaders[index] ?? ''
    if (!lengths.has(written.length)) continue
    const name = written.toLowerCase()
    if (!singular.has(name)) continue
    if (seen.includes(name)) return [400, `The request has more than one ${name}.`]
    seen.push(name)
  }
  return undefined
}
