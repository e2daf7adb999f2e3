import { createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Problem } from '../plugins/errors.ts'
import { answer, problemResponses } from './schemas.ts'
import type { components } from '../contracts/payments.d.ts'

/** How far the time of a notification may be from now, in s, as the specification has it. */
const toleranceS = 300

/** Of a body, in bytes: it says no more than what changed. */
const bodyMax = 16_384

/**
 * Reads what a gateway sent.
 *
 * @returns the id of the payment or the refund that changed; undefined where it is about something else
 * @throws Problem where the signature is not valid, or the body is not by the gateway's contract
 */
export type ReadNotification = (headers: IncomingHttpHeaders, body: Buffer) => string | undefined

export interface NotificationsOptions {
  read: ReadNotification
  /** Has the payment or the refund looked at soon. Does not reject. */
  wake: (id: string) => Promise<void>
}

/**
 * What the gateway sends when something changed. Nothing in it is believed: the service asks the gateway. So it may come twice,
 * late, out of order or never, and a recorded one does no harm.
 */
const notifications: FastifyPluginAsyncTypebox<NotificationsOptions> = async (app, { read, wake }) => {
  // The signature is of the bytes as they came.
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer', bodyLimit: bodyMax }, (_request, body, done) => { done(null, body) })

  app.post('/payments/notifications', {
    // A gateway sends many.
    config: { rateLimit: false },
    schema: {
      operationId: 'notifyOfPayment',
      tags: ['payments'],
      summary: 'For the gateway: something changed',
      description: 'Signed by the gateway, in place of a token; contracts/payments.yaml has it.',
      security: [],
      response: { 204: answer(Type.Null(), 'Taken'), ...problemResponses('signature-invalid') }
    }
  }, async (request, reply) => {
    const id = read(request.headers, Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0))
    if (id !== undefined) await wake(id)
    return reply.code(204).send(null)
  })
}
export default notifications

const notification = Compile(Type.Object({
  type: Type.String(),
  id: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' })
}))

/**
 * The Standard Webhooks specification (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md),
 * with the symmetric signatures.
 *
 * @param secret base64 after `whsec_`; any other is taken as it is
 */
export function standardWebhooks (secret: string, now: () => number = Date.now): ReadNotification {
  const key = secret.startsWith('whsec_') ? Buffer.from(secret.slice('whsec_'.length), 'base64') : Buffer.from(secret)
  return ({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures }, body) => {
    if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string') throw signatureInvalid('It has not all of the headers webhook-id, webhook-timestamp and webhook-signature.')
    const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
    // There are several while the secret is being replaced.
    const isSigned = signatures.split(' ').some(signature => signature.startsWith('v1,') && isSame(Buffer.from(signature.slice('v1,'.length), 'base64'), expected))
    if (!isSigned) throw signatureInvalid('The signature is not of this body by this secret.')
    requireRecent(timestamp, now)
    const message = parsedNotification(body)
    if (!notification.Check(message)) throw new Problem('invalid-request', 'The notification is not by its contract. Nothing was done.')
    const { id: changed }: Pick<components['schemas']['Notification'], 'id'> = message
    return changed
  }
}

/** @param timestamp s since 1970 @throws Problem where it is not about now */
export function requireRecent (timestamp: string, now: () => number): void {
  if (!/^\d{1,12}$/.test(timestamp) || Math.abs(now() / 1_000 - Number(timestamp)) > toleranceS) throw signatureInvalid(`It was signed more than ${toleranceS} s ago, or by a clock that is far from this one.`)
}

export function isSame (a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

export function signatureInvalid (why: string): Problem {
  // RFC 9110 section 15.5.2 asks for a challenge.
  return new Problem('signature-invalid', `The notification is not taken. ${why} Nothing was done.`, { headers: { 'www-authenticate': 'Signature' } })
}

export function parsedNotification (body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    throw new Problem('invalid-request', 'The notification is not JSON. Nothing was done.')
  }
}
