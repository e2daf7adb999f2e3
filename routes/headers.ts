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
 * The versions that a header of entity tags names (RFC 9110 sections 13.1.1 and 13.1.2): 'any' for *, undefined where it is not there.
 * A foreign tag names no version of ours and matches nothing; a weak one neither, in If-Match.
 */
export function versionsOf (headers: IncomingHttpHeaders, name: 'if-match' | 'if-none-match'): 'any' | bigint[] | undefined {
  const tags = tagsOf(headers, name)
  if (!Array.isArray(tags)) return tags
  return tags
    .map(tag => name === 'if-none-match' ? tag.replace(/^W\//, '') : tag)
    .flatMap(tag => /^"[1-9]\d{0,17}"$/.test(tag) ? [BigInt(tag.slice(1, -1))] : [])
}

/** The same for an order, whose versions are few; null for any. */
export function expectedVersionsOf (headers: IncomingHttpHeaders): number[] | null {
  const versions = versionsOf(headers, 'if-match')
  // Of a larger one there is none.
  return Array.isArray(versions) ? versions.filter(version => version < 2n ** 31n).map(Number) : null
}

/** @throws Problem where it is no list of entity tags: what cannot be read is not ignored */
export function tagsOf (headers: IncomingHttpHeaders, name: 'if-match' | 'if-none-match'): 'any' | string[] | undefined {
  const header = headers[name]
  if (header === undefined) return undefined
  if (header.trim() === '*') return 'any'
  // A comma may also be within a tag.
  if (!/^\s*(W\/)?"[\x21\x23-\x7e\x80-\xff]*"(\s*,\s*(W\/)?"[\x21\x23-\x7e\x80-\xff]*")*\s*$/.test(header)) {
    throw new Problem('invalid-request', `${name === 'if-match' ? 'If-Match' : 'If-None-Match'} takes an ETag in its quotes, a list of them, or *. Nothing was changed.`)
  }
  return header.match(/(W\/)?"[^"]*"/g) ?? []
}
