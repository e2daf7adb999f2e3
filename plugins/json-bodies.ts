import { isUtf8 } from 'node:buffer'
import fp from 'fastify-plugin'
import { Problem } from './errors.ts'
import type { FastifyRequest } from 'fastify'

/** Levels of objects and arrays: what is asked for has three, and each level costs whoever walks through it. */
const depthMax = 16

/** The body of a request is JSON in UTF-8 (RFC 8259 section 8.1) as it is, or it is refused: never read as something else. */
export default fp(async app => {
  const parse = app.getDefaultJsonParser('error', 'error')

  // Also where there is no body, or none is read: who coded something believes that it was understood.
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const coding = request.headers['content-encoding']
    if (coding === undefined || coding.trim().toLowerCase() === 'identity') return done(null, payload)
    done(new Problem('invalid-request', `The body is coded as ${coding}; it is taken as it is, without a Content-Encoding. Nothing was stored.`, { status: 415, headers: { 'accept-encoding': 'identity' } }), payload)
  })

  // Text too would be a body that is not an object (400), where the media type is at fault (415).
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    const problem = problemOf(request, body)
    if (problem !== undefined) return done(problem, undefined)
    // Many clients name a media type with every request. Where no body is asked for, an empty one is none.
    if (body.length === 0 && request.routeOptions.schema?.body === undefined) return done(null, undefined)
    // Its type has it return something; it calls back.
    void parse(request, body.toString(), done)
  })
}, { name: 'json-bodies', fastify: '5.x' })

function problemOf (request: FastifyRequest, body: Buffer): Problem | undefined {
  const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(request.headers['content-type'] ?? '')?.[1]
  if (charset !== undefined && !['utf-8', 'utf8', 'us-ascii'].includes(charset.toLowerCase())) {
    return new Problem('invalid-request', `The body is in ${charset}; JSON is taken in UTF-8. Nothing was stored.`, { status: 415 })
  }
  if (!isUtf8(body)) return new Problem('invalid-request', 'The body is not UTF-8. Nothing was stored.')
  if (isDeeperThan(depthMax, body)) return new Problem('invalid-request', `The body is nested more than ${depthMax} levels deep. Nothing was stored.`)
  return undefined
}

/** Looked at before it is parsed, byte by byte: in UTF-8 none of these is a part of another character. */
function isDeeperThan (max: number, json: Buffer): boolean {
  let depth = 0
  let isText = false
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]
    if (byte === quote) isText = !isText
    else if (isText) at += byte === backslash ? 1 : 0
    else if (byte === brace || byte === bracket) depth++
    else if (byte === closingBrace || byte === closingBracket) depth--
    if (depth > max) return true
  }
  return false
}

const [quote, backslash, brace, bracket, closingBrace, closingBracket] = Buffer.from('"\\{[}]')
