import fp from 'fastify-plugin'
import { Problem } from './errors.ts'
import type { IncomingMessage } from 'node:http'

/** Of them Node takes the first, where another between the client and this service may take the last. */
const singular: ReadonlySet<string> = new Set(['authorization', 'content-type', 'host'])
/** Of few others: most names need not be looked at. */
const lengths: ReadonlySet<number> = new Set([...singular].map(name => name.length))

/** A host and a port as RFC 3986 section 3.2 has them, without a user. */
const authority = /^(\[[0-9a-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?$/i

/**
 * Refuses a head that two readers could read in two ways, or that asks for what the service does not do, in words: Node
 * answers some of them by itself, with an empty body.
 */
export default fp(async app => {
  const unmet = new WeakSet<IncomingMessage>()
  app.server.on('checkExpectation', (request, response) => {
    unmet.add(request)
    app.server.emit('request', request, response)
  })

  app.addHook('onRequest', (request, _reply, done) => {
    const { raw } = request
    const [status, fault] = faultOf(raw) ?? (unmet.has(raw) ? [417, 'The service meets no expectation but 100-continue.'] : [])
    if (fault === undefined) return done()
    done(new Problem('invalid-request', `${fault} Nothing was stored.`, status === undefined ? {} : { status }))
  })
}, { name: 'strict-heads', fastify: '5.x' })

/** RFC 9112 section 3.2 of Host; RFC 9110 section 5.3 of the others. */
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
