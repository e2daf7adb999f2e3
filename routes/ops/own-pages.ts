import { hostname } from 'node:os'
import { isIP } from 'node:net'
import fp from 'fastify-plugin'
import { Problem } from '../../plugins/errors.ts'
import type { FastifyRequest } from 'fastify'

export interface OwnPagesOptions {
  /** Allowed host names in lower case, in addition to addresses and the names of this machine. Default: none. */
  allowedHosts?: readonly string[] | undefined
}

/**
 * Refuses the requests of a browser for any page but this port's own, also reads: from another site or origin, or with a host name
 * that was made to point here (DNS rebinding), which gives a foreign page the same origin. Programs send no such headers, and use
 * an address or an allowed name.
 */
export default fp<OwnPagesOptions>(async (ops, { allowedHosts = [] }) => {
  const named = new Set(allowedHosts)
  const names = new Set(['localhost', hostname().toLowerCase(), ...allowedHosts])

  // After the hooks that require a token, so that a client without one learns that first.
  ops.addHook('preParsing', (request, _reply, payload, done) => {
    const fault = faultOf(request)
    if (fault === undefined) return done(null, payload)
    request.log.warn({ remoteAddress: request.raw.socket.remoteAddress, host: request.headers.host, origin: request.headers.origin, method: request.method, url: request.url }, 'A request was refused: a browser may have sent it for a foreign page.')
    done(new Problem('forbidden', `${fault} Nothing was read or done.`), payload)
  })

  function faultOf (request: FastifyRequest): string | undefined {
    const { host, origin, 'sec-fetch-site': site = 'none' } = request.headers
    // Without Host it is HTTP/1.0, which no browser sends.
    if (host !== undefined) {
      const hostname = hostnameOf(host)
      if (isIP(hostname) === 0 && !names.has(hostname)) return 'The ops port does not answer to this Host. Use its address or the name of its machine, or add the name to OPS_ALLOWED_HOSTS.'
      // An allowed name may belong to a proxy with TLS.
      if (origin !== undefined && origin !== `http://${host}` && !(named.has(hostname) && origin === `https://${host}`)) return 'The ops port does not answer to pages of another origin.'
    }
    if (site !== 'none' && site !== 'same-origin' && !isLinkToPage(request)) return 'The ops port does not answer to pages of another site.'
    return undefined
  }
}, { name: 'own-pages', fastify: '5.x' })

/** Somebody follows a link, for example in a chat or a runbook. The page opens as a document of its own, and the linking page sees nothing of it. */
function isLinkToPage ({ method, routeOptions: { url }, headers }: FastifyRequest): boolean {
  return method === 'GET' && url === '/' && headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document'
}

/** In lower case, without the port and the brackets of IPv6; empty if the header is malformed. */
export function hostnameOf (host: string): string {
  const [, ipv6, name] = /^(?:\[([0-9a-f:.]+)\]|([^\s:/?#@[\]]+))(?::\d*)?$/i.exec(host) ?? []
  return (ipv6 ?? name ?? '').toLowerCase()
}
