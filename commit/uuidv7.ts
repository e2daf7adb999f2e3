/**
 * A UUIDv7 (RFC 9562 section 5.7): its first 48 bits are the time, so that ids sort by time.
 *
 * Its other bits come from `randomUUID`, which draws them from a pool; the package `uuid` asks the system for each id.
 *
 * @param at ms since 1970
 */
export function uuidv7 (at: number): string {
  const time = at.toString(16).padStart(12, '0')
  // Character 14 is the version; the rest has the same form in versions 4 and 7.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`
}

/** Sorts before every UUIDv7 of this time or later, and after every earlier one. */
export function firstUuidAt (at: number): string {
  const time = Math.min(Math.max(at, 0), 2 ** 48 - 1).toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`
}
