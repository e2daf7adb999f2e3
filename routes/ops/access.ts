import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { BlockList, isIP } from 'node:net'
import { Problem } from '../../plugins/errors.ts'
import type { FastifyRequest } from 'fastify'

export const accesses = ['granted', 'token-needed', 'denied'] as const
export type Access = typeof accesses[number]

/** Whether the request may do what only operators may: it comes from this machine, or holds the operators' token. */
export function accessOf (request: FastifyRequest, token: string | undefined): Access {
  if (isFromHere(request) || holds(request.headers, token)) return 'granted'
  return token === undefined ? 'denied' : 'token-needed'
}

/**
 * Refuses others than operators.
 *
 * @param what it may not do, after "may"; and what was not done, as a sentence
 * @throws Problem 'forbidden', 'unauthenticated'
 */
export function requireOperator (request: FastifyRequest, token: string | undefined, what: string, notDone: string): void {
  const access = accessOf(request, token)
  if (access === 'granted') return
  request.log.warn({ remoteAddress: request.raw.socket.remoteAddress, method: request.method, url: request.url }, 'An operation was asked for by one who may not.')
  if (access === 'denied') throw new Problem('forbidden', `Only a request from this machine may ${what}: no OPS_TOKEN is set. ${notDone}`)
  const why = request.headers.authorization === undefined ? 'From elsewhere than this machine it takes' : 'This is not'
  throw new Problem('unauthenticated', `${why} the operators' token: Authorization: Bearer <OPS_TOKEN>. ${notDone}`, { headers: { 'www-authenticate': 'Bearer' } })
}

/**
 * The socket alone can grant it. Headers can only take it away, because others than the operator come from loopback too: a
 * proxy on this machine, a page of any site in the operator's browser, a foreign name that was made to point here.
 */
function isFromHere ({ raw: { socket }, headers }: FastifyRequest): boolean {
  return isLoopback(socket.remoteAddress ?? '') &&
    headers.forwarded === undefined && headers['x-forwarded-for'] === undefined &&
    isNameOfHere(headers.host ?? '') &&
    (headers.origin === undefined || headers.origin === `http://${headers.host}`)
}

function isNameOfHere (host: string): boolean {
  const hostname = URL.parse(`http://${host}`)?.hostname ?? ''
  return hostname === 'localhost' || isLoopback(hostname.replace(/^\[(.*)\]$/, '$1'))
}

/** Also in the form that a socket for both families gives to IPv4, ::ffff:127.0.0.1. */
function isLoopback (address: string): boolean {
  const family = isIP(address)
  if (family === 0) return false
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  return loopback.check(address, family === 6 ? 'ipv6' : 'ipv4')
}

function holds ({ authorization = '' }: IncomingHttpHeaders, token: string | undefined): boolean {
  const given = /^Bearer +(.+)$/i.exec(authorization)?.[1]
  // Hashes are of one length, which timingSafeEqual asks for and which tells nothing of the token's.
  return token !== undefined && given !== undefined && timingSafeEqual(sha256(given), sha256(token))
}

function sha256 (text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
