import { isUtf8 } from 'node:buffer'
import fp from 'fastify-plugin'
import { Problem } from './errors.ts'
import type { FastifyRequest } from 'fastify'

/** Levels of objects and arrays: the API's bodies have three, and each level costs whatever walks through the body. */
const depthMax = 16

/** Accepts a body only as plain JSON in UTF-8 (RFC 8259 section 8.1), and refuses everything else. */
export default fp(async app => {
  const parse = app.getDefaultJsonParser('error', 'error')

  // Also if no body is read: a client that encoded one believes that it was understood.
  app.addHook('preParsing', (request, _reply, payload, done) => {
    const coding = request.headers['content-encoding']
    if (coding === undefined || coding.trim().toLowerCase() === 'identity') return done(null, payload)
    done(new Problem('invalid-request', `The body is encoded as ${coding}. Nothing was stored. Send it without a Content-Encoding.`, { status: 415, headers: { 'accept-encoding': 'identity' } }), payload)
  })

  // Fastify's text parser would answer 400 (not an object) to a wrong media type, which is a 415.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    const problem = problemOf(request, body)
    if (problem !== undefined) return done(problem, undefined)
    // Many clients send a Content-Type with every request. If the route asks for no body, an empty one is fine.
    if (body.length === 0 && request.routeOptions.schema?.body === undefined) return done(null, undefined)
    // By its type it may return a promise; in fact it calls back.
    void parse(request, body.toString(), done)
  })
}, { name: 'json-bodies', fastify: '5.x' })

function problemOf (request: FastifyRequest, body: Buffer): Problem | undefined {
  const charset = /;\s*charset\s*=\s*"?([^";\s]*)/i.exec(request.headers['content-type'] ?? '')?.[1]
  if (charset !== undefined && !['utf-8', 'utf8', 'us-ascii'].includes(charset.toLowerCase())) {
    return new Problem('invalid-request', `The body is in ${charset}. Nothing was stored. Send JSON in UTF-8.`, { status: 415 })
  }
  if (!isUtf8(body)) return new Problem('invalid-request', 'The body is not UTF-8. Nothing was stored.')
  if (isDeeperThan(depthMax, body)) return new Problem('invalid-request', `The body is nested more than ${depthMax} levels deep. Nothing was stored.`)
  return undefined
}

/** Runs before the parser, over bytes: in UTF-8 none of these is a part of another character. */
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
