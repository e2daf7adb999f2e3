import { hostname } from 'node:os'
import { isIP } from 'node:net'
import fp from 'fastify-plugin'
import { Problem } from '../../plugins/errors.ts'
import type { FastifyRequest } from 'fastify'

export interface OwnPagesOptions {
  /** Names by which the port may be asked, in small letters, beside addresses and those of this machine. Default: none. */
  allowedHosts?: readonly string[] | undefined
}

/**
 * Refuses what a browser sends for another page than this port's own, reads as well: of another site or origin, or by a name
 * that was made to point here (DNS rebinding), by which a foreign page is of the same origin. Programs send no such headers,
 * and ask by an address or a name that is allowed.
 */
export default fp<OwnPagesOptions>(async (ops, { allowedHosts = [] }) => {
  const named = new Set(allowedHosts)
  const names = new Set(['localhost', hostname().toLowerCase(), ...allowedHosts])

  // After those hooks that ask for a token: who needs one and has none is told that.
  ops.addHook('preParsing', (request, _reply, payload, done) => {
    const fault = faultOf(request)
    if (fault === undefined) return done(null, payload)
    request.log.warn({ remoteAddress: request.raw.socket.remoteAddress, host: request.headers.host, origin: request.headers.origin, method: request.method, url: request.url }, 'A request was refused that a browser may have sent for a page of others.')
    done(new Problem('forbidden', `${fault} Nothing was read or done.`), payload)
  })

  function faultOf (request: FastifyRequest): string | undefined {
    const { host, origin, 'sec-fetch-site': site = 'none' } = request.headers
    // Without one it is HTTP/1.0, and no browser's.
    if (host !== undefined) {
      const hostname = hostnameOf(host)
      if (isIP(hostname) === 0 && !names.has(hostname)) return 'The operators\' port is not asked by this Host. Ask it by its address or the name of its machine, or put the name into OPS_ALLOWED_HOSTS.'
      // Where its name is said, there may be a proxy with TLS before it.
      if (origin !== undefined && origin !== `http://${host}` && !(named.has(hostname) && origin === `https://${host}`)) return 'The operators\' port is not asked by pages of another origin.'
    }
    if (site !== 'none' && site !== 'same-origin' && !isLinkToPage(request)) return 'The operators\' port is not asked by pages of another site.'
    return undefined
  }
}, { name: 'own-pages', fastify: '5.x' })

/** Somebody follows a link, as in a chat or a runbook. The page is shown in a window of its own, and what links to it gets nothing of it. */
function isLinkToPage ({ method, routeOptions: { url }, headers }: FastifyRequest): boolean {
  return method === 'GET' && url === '/' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
}

/** In small letters, without the port, and without the brackets of IPv6; empty where the header is none. */
export function hostnameOf (host: string): string {
  const [, ipv6, name] = /^(?:\[([0-9a-f:.]+)\]|([^\s:/?#@[\]]+))(?::\d*)?$/i.exec(host) ?? []
  return (ipv6 ?? name ?? '').toLowerCase()
}
