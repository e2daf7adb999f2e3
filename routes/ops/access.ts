import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isLoopback, isLoopbackHost } from '../../config/loopback.ts'
import { Problem } from '../../plugins/errors.ts'
import { hostnameOf } from './own-pages.ts'
import type { Config } from '../../config.ts'
import type { FastifyRequest } from 'fastify'

export const accesses = ['granted', 'token-needed', 'denied'] as const
export type Access = typeof accesses[number]

/** Who may do what only operators may. */
export interface Operators {
  /** Makes an operator of whoever holds it; undefined: of nobody. */
  token: string | undefined
  /** Whether what comes from this machine is an operator's. */
  trustsLoopback: boolean
}

/** Where the port is open to others, they may come from loopback as well: through whatever forwards connections here. */
export function operatorsOf ({ host, token }: Pick<Config['ops'], 'host' | 'token'>): Operators {
  return { token, trustsLoopback: isLoopbackHost(host) }
}

/** Whether the request may do what only operators may. */
export function accessOf (request: FastifyRequest, { token, trustsLoopback }: Operators): Access {
  if ((trustsLoopback && isFromHere(request)) || holds(request.headers, token)) return 'granted'
  return token === undefined ? 'denied' : 'token-needed'
}

/**
 * Refuses others than operators.
 *
 * @param what it may not do, after "may"; and what was not done, as a sentence
 * @throws Problem 'forbidden', 'unauthenticated'
 */
export function requireOperator (request: FastifyRequest, operators: Operators, what: string, notDone: string): void {
  const access = accessOf(request, operators)
  if (access === 'granted') return
  request.log.warn({ remoteAddress: request.raw.socket.remoteAddress, method: request.method, url: request.url }, 'An operation was asked for by one who may not.')
  if (access === 'denied') throw new Problem('forbidden', `Only a request from this machine may ${what}: no OPS_TOKEN is set. ${notDone}`)
  const why = request.headers.authorization !== undefined ? 'This is not' : operators.trustsLoopback ? 'From elsewhere than this machine it takes' : 'It takes'
  throw new Problem('unauthenticated', `${why} the operators' token: Authorization: Bearer <OPS_TOKEN>. ${notDone}`, { headers: { 'www-authenticate': 'Bearer' } })
}

/**
 * The socket alone can grant it. Headers can only take it away, because others than the operator come from loopback too: a
 * proxy on this machine, a page of any site in the operator's browser.
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
  // Hashes are of one length, which timingSafeEqual asks for and which tells nothing of the token's.
  return token !== undefined && given !== undefined && timingSafeEqual(sha256(given), sha256(token))
}

function sha256 (text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
