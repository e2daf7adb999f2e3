import { Type } from 'typebox'
import { Problem } from '../plugins/errors.ts'

/** A parameter of the query string. What is wrong with one is said by `msOfInstant`, in more words than a format has. */
export function instant (description: string) {
  return Type.String({ format: 'date-time', description: `${description}. RFC 3339; a + of its offset is written %2B.` })
}

/**
 * The first millisecond since 1970 that is not before an instant of RFC 3339. Times are stored to the millisecond, so this
 * is exact for what is at or after an instant, and for what is before it.
 */
export function msOfInstant (name: string, text: string): number {
  const [matched, date = '', minute = '', second = '', fraction = '', offset = ''] = /^(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)$/.exec(text) ?? []
  // A leap second is one in RFC 3339, and none in JavaScript.
  const ms = matched === undefined || Number(second) > 60 ? NaN : Date.parse(`${date}T${minute}:00${offset.toUpperCase()}`)
  if (Number.isNaN(ms) || !isDate(date)) {
    const message = 'is no instant of RFC 3339, such as 2026-11-27T18:00:00Z or 2026-11-27T19:00:00%2B01:00 (with + as %2B)'
    throw new Problem('invalid-request', `${name} ${message}. Nothing was read.`, { extra: { errors: [{ in: 'querystring', path: `/${name}`, message }] } })
  }
  return ms + Number(second) * 1_000 + Number(fraction.slice(0, 3).padEnd(3, '0')) + (/[1-9]/.test(fraction.slice(3)) ? 1 : 0)
}

/** JavaScript makes 2 March of 30 February. */
function isDate (date: string): boolean {
  const parsed = new Date(`${date}T00:00:00Z`)
  return !Number.isNaN(parsed.getTime()) && parsed.toISOString().startsWith(date)
}
