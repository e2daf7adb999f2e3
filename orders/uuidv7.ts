/**
 * A UUIDv7 (RFC 9562 section 5.7): its first 48 bits are the time, so that it sorts by it.
 *
 * Its other bits come from `randomUUID`, which draws them from a pool; the package `uuid` asks the system for each.
 *
 * @param at ms since 1970
 */
export function uuidv7 (at: number): string {
  const time = at.toString(16).padStart(12, '0')
  // The version stands at 14, and all behind it is alike in versions 4 and 7.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`
}

/** What sorts before every UUIDv7 of this time and later ones, and after every earlier one. */
export function firstUuidAt (at: number): string {
  const time = Math.min(Math.max(at, 0), 2 ** 48 - 1).toString(16).padStart(12, '0')
  return `${time.slice(0, 8)}-${time.slice(8)}-0000-0000-000000000000`
}
