import { Type } from 'typebox'
import { Problem } from '../plugins/errors.ts'

/** A parameter of the query string. `msOfInstant` explains a fault in more detail than the format check. */
export function instant (description: string) {
  return Type.String({ format: 'date-time', description: `${description}. RFC 3339; write the + of an offset as %2B.` })
}

/**
 * The first millisecond since 1970 at or after an instant of RFC 3339. The database stores milliseconds, so a comparison with the
 * result is exact, both for "before" and for "at or after".
 */
export function msOfInstant (name: string, text: string): number {
  const [matched, date = '', minute = '', second = '', fraction = '', offset = ''] = /^(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/.exec(text) ?? []
  // RFC 3339 has leap seconds; JavaScript has none.
  const ms = matched === undefined || Number(second) > 60 ? NaN : Date.parse(`${date}T${minute}:00${offset.toUpperCase()}`)
  if (Number.isNaN(ms) || !isDate(date)) {
    const message = 'is no instant of RFC 3339, such as 2026-11-27T18:00:00Z or 2026-11-27T19:00:00%2B01:00 (with + as %2B)'
    throw new Problem('invalid-request', `${name} ${message}. Nothing was read.`, { extra: { errors: [{ in: 'querystring', path: `/${name}`, message }] } })
  }
  return ms + Number(second) * 1_000 + Number(fraction.slice(0, 3).padEnd(3, '0')) + (/[1-9]/.test(fraction.slice(3)) ? 1 : 0)
}

/** JavaScript turns 30 February into 2 March. */
function isDate (date: string): boolean {
  const parsed = new Date(`${date}T00:00:00Z`)
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(date)
}
