import type { IncomingHttpHeaders } from 'node:http'
import { Problem } from '../plugins/errors.ts'

/**
 * The key that makes a request happen once (draft-ietf-httpapi-idempotency-key-header-07): a quoted string as the draft has it,
 * or bare, as most clients send it.
 */
export function idempotencyKeyOf (headers: IncomingHttpHeaders): string {
  const header = headers['idempotency-key']
  if (header === undefined || header === '') {
    throw new Problem('idempotency-key-missing', 'Send an Idempotency-Key of your own making (a UUID, say), and the same one when you retry. Nothing was stored.')
  }
  const key = /^"([\x21\x23-\x5b\x5d-\x7e]{1,255})"$/.exec(String(header))?.[1] ?? /^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255}$/.exec(String(header))?.[0]
  if (key === undefined) {
    throw new Problem('invalid-request', 'The Idempotency-Key is not one string of 1 to 255 visible ASCII characters, quoted or bare. Nothing was stored.')
  }
  return key
}

/**
 * The versions that If-Match allows (RFC 9110 section 13.1.1); null for any.
 * A weak or foreign tag names no version of ours and matches nothing.
 */
export function expectedVersionsOf (ifMatch: string | undefined): number[] | null {
  if (ifMatch === undefined || ifMatch.trim() === '*') return null
  const tags = ifMatch.split(',').map(tag => tag.trim())
  if (!tags.every(tag => /^(W\/)?"[\x21\x23-\x7e]*"$/.test(tag))) {
    throw new Problem('invalid-request', 'If-Match takes the ETag of the order, in its quotes, or *. Nothing was changed.')
  }
  return tags.flatMap(tag => /^"[1-9]\d{0,8}"$/.test(tag) ? [Number(tag.slice(1, -1))] : [])
}
