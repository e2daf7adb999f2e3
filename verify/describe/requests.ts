import { createHmac } from 'node:crypto'
import type { Request } from '../target.ts'
import type { Description, RequestParts, RequestTemplate } from './description.ts'
import { fill, fillOptional, fillText, text, type Values } from './template.ts'

const dayMs = 24 * 60 * 60 * 1_000

/** The request that a template makes from these values. */
export function requestOf (template: RequestTemplate, headers: RequestParts['headers'], values: Values): Request {
  const parts = typeof template === 'string' ? partsOf(template) : template
  const { method = 'GET', path, query = {} } = parts
  const search = Object.entries(query).flatMap(([name, value]) => {
    const filled = fillOptional(value, values)
    return filled === undefined ? [] : [`${encodeURIComponent(name)}=${encodeURIComponent(filled)}`]
  })
  const filled = fill(parts.body, values)
  const body = filled === undefined ? undefined : typeof filled === 'string' ? filled : JSON.stringify(filled)
  return {
    method,
    path: [fillText(path, values, value => encodeURIComponent(text(value))), ...search.length === 0 ? [] : [`${path.includes('?') ? '&' : '?'}${search.join('&')}`]].join(''),
    headers: {
      ...body !== undefined && { 'content-type': 'application/json' },
      ...Object.fromEntries(Object.entries({ ...headers, ...parts.headers }).flatMap(([name, value]) => {
        const filled = fillOptional(value, values)
        return filled === undefined ? [] : [[name.toLowerCase(), filled]]
      }))
    },
    ...body !== undefined && { body }
  }
}

function partsOf (template: string): RequestParts {
  const [method = '', path = ''] = template.split(/ +/, 2)
  return { method: method as NonNullable<RequestParts['method']>, path }
}

/** Makes the tokens of a run, one for each customer. */
export function signer ({ secret, claims = { sub: '{{customer}}' } }: NonNullable<Description['jwt']>): (customer: string) => string {
  const made = new Map<string, string>()
  return customer => {
    const known = made.get(customer)
    if (known !== undefined) return known
    const now = Math.floor(Date.now() / 1_000)
    const filled = fill(claims, { customer, env: process.env }) as Record<string, unknown>
    const signed = [{ alg: 'HS256', typ: 'JWT' }, { iat: now, exp: now + dayMs / 1_000, ...filled }].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    const token = `${signed}.${createHmac('sha256', fillText(secret, { env: process.env })).update(signed).digest('base64url')}`
    made.set(customer, token)
    return token
  }
}
