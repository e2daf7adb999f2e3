import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isLoopback, isLoopbackHost } from '../../config/loopback.ts'
import { Problem } from '../../plugins/errors.ts'
import { hostnameOf } from './own-pages.ts'
import type { Config } from '../../config.ts'
import type { FastifyRequest } from 'fastify'

export const accesses = ['granted', 'token-needed', 'denied'] as const
export type Access = typeof accesses[number]

/** Who counts as an operator. */
export interface Operators {
  /** Whoever sends it is an operator; undefined: there is no token. */
  token: string | undefined
  /** Whether requests from this machine are an operator's. */
  trustsLoopback: boolean
}

/** If the port is open to other machines, loopback is not trusted: a forwarder on this machine may pass on their connections. */
export function operatorsOf ({ host, token }: Pick<Config['ops'], 'host' | 'token'>): Operators {
  return { token, trustsLoopback: isLoopbackHost(host) }
}

/** Whether the request is an operator's. */
export function accessOf (request: FastifyRequest, { token, trustsLoopback }: Operators): Access {
  if ((trustsLoopback && isFromHere(request)) || holds(request.headers, token)) return 'granted'
  return token === undefined ? 'denied' : 'token-needed'
}

/**
 * Refuses a request that is not an operator's.
 *
 * @param what the operation, as a verb after "may"
 * @param notDone what was not done, as a sentence
 * @throws Problem 'forbidden', 'unauthenticated'
 */
export function requireOperator (request: FastifyRequest, operators: Operators, what: string, notDone: string): void {
  const access = accessOf(request, operators)
  if (access === 'granted') return
  request.log.warn({ remoteAddress: request.raw.socket.remoteAddress, method: request.method, url: request.url }, 'A request was refused: only an operator may do this.')
  if (access === 'denied') throw new Problem('forbidden', `Only a request from this machine may ${what}: no OPS_TOKEN is set. ${notDone}`)
  const why = request.headers.authorization !== undefined ? 'This is not' : operators.trustsLoopback ? 'From another machine it takes' : 'It takes'
  throw new Problem('unauthenticated', `${why} the operators' token: Authorization: Bearer <OPS_TOKEN>. ${notDone}`, { headers: { 'www-authenticate': 'Bearer' } })
}

/**
 * Only the socket can grant access. Headers can only take it away, because loopback also brings requests of others: through a proxy
 * on this machine, or from a page of any site in the operator's browser.
 */
function isFromHere ({ raw: { socket }, headers }: FastifyRequest): boolean {
  return isLoopback(socket.remoteAddress ?? '') &&
    headers.forwarded === undefined && headers['x-forwarded-for'] === undefined &&
    isNameOfHere(headers.host ?? '') &&
    (headers.origin === undefined || headers.origin === `http://${headers.host}`)
}

function isNameOfHere (host: string): boolean {
  const hostname = hostnameOf(host)
  return hostname === 'localhost' || isLoopback(hostname)
}

function holds ({ authorization = '' }: IncomingHttpHeaders, token: string | undefined): boolean {
  const given = /^Bearer +(.+)$/i.exec(authorization)?.[1]
  // Hashes have one length: timingSafeEqual requires it, and it hides the length of the token.
  return token !== undefined && given !== undefined && timingSafeEqual(sha256(given), sha256(token))
}

function sha256 (text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
