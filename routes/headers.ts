import type { IncomingHttpHeaders } from 'node:http'
import { Problem } from '../plugins/errors.ts'

/**
 * The key that makes a request happen once (draft-ietf-httpapi-idempotency-key-header-07): a quoted string, as in the draft, or
 * bare, as most clients send it.
 */
export function idempotencyKeyOf (headers: IncomingHttpHeaders): string {
  const header = headers['idempotency-key']
  if (header === undefined || header === '') {
    throw new Problem('idempotency-key-missing', 'The request has no Idempotency-Key. Nothing was stored. Send a new key, such as a UUID, and the same one when you retry.')
  }
  const key = /^"([\x21\x23-\x5b\x5d-\x7e]{1,255})"$/.exec(String(header))?.[1] ?? /^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]{1,255}$/.exec(String(header))?.[0]
  if (key === undefined) {
    throw new Problem('invalid-request', 'The Idempotency-Key is not one string of 1 to 255 visible ASCII characters, quoted or bare. Nothing was stored.')
  }
  return key
}

/**
 * The versions that a header of entity tags names (RFC 9110 sections 13.1.1 and 13.1.2): 'any' for *, undefined without the header.
 * A tag that this service never made matches nothing. In If-Match a weak tag matches nothing either.
 */
export function versionsOf (headers: IncomingHttpHeaders, name: 'if-match' | 'if-none-match'): 'any' | bigint[] | undefined {
  const tags = tagsOf(headers, name)
  if (!Array.isArray(tags)) return tags
  return tags
    .map(tag => name === 'if-none-match' ? tag.replace(/^W\//, '') : tag)
    .flatMap(tag => /^"[1-9]\d{0,17}"$/.test(tag) ? [BigInt(tag.slice(1, -1))] : [])
}

/** The same for an order, whose version is an integer of Postgres; null for any. */
export function expectedVersionsOf (headers: IncomingHttpHeaders): number[] | null {
  const versions = versionsOf(headers, 'if-match')
  // No order has a larger version, and Postgres would refuse it.
  return Array.isArray(versions) ? versions.filter(version => version < 2n ** 31n).map(Number) : null
}

/** @throws Problem if the header is no list of entity tags: ignoring it would drop a condition */
export function tagsOf (headers: IncomingHttpHeaders, name: 'if-match' | 'if-none-match'): 'any' | string[] | undefined {
  const header = headers[name]
  if (header === undefined) return undefined
  if (header.trim() === '*') return 'any'
  // A tag may contain commas.
  if (!/^\s*(W\/)?"[\x21\x23-\x7e\x80-\xff]*"(\s*,\s*(W\/)?"[\x21\x23-\x7e\x80-\xff]*")*\s*$/.test(header)) {
    throw new Problem('invalid-request', `${name === 'if-match' ? 'If-Match' : 'If-None-Match'} takes an ETag in its quotes, a list of them, or *. Nothing was changed.`)
  }
  return header.match(/(W\/)?"[^"]*"/g) ?? []
}
