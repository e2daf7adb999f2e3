import { createHmac, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Problem } from '../plugins/errors.ts'
import { answer, problemResponses } from './schemas.ts'
import type { components } from '../contracts/payments.d.ts'

/** How far the time of a notification may be from now, in s. The specification recommends a limit. */
const toleranceS = 300

/** The largest body, in bytes: a notification says only what changed. */
const bodyMax = 16_384

/**
 * Reads a notification of a gateway.
 *
 * @returns the id of the payment or the refund that changed; undefined if it is about something else
 * @throws Problem if the signature is not valid, or the body violates the gateway's contract
 */
export type ReadNotification = (headers: IncomingHttpHeaders, body: Buffer) => string | undefined

export interface NotificationsOptions {
  read: ReadNotification
  /** Makes the settler ask about the payment or the refund soon. Never rejects. */
  wake: (id: string) => Promise<void>
}

/**
 * The gateway sends notifications when a payment or a refund changed. The service does not rely on the content, but asks the
 * gateway. So a notification may come twice, late, out of order or never, and replaying one does no harm.
 */
const notifications: FastifyPluginAsyncTypebox<NotificationsOptions> = async (app, { read, wake }) => {
  // The signature covers the raw bytes.
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer', bodyLimit: bodyMax }, (_request, body, done) => { done(null, body) })

  app.post('/payments/notifications', {
    // One gateway sends the notifications of all customers.
    config: { rateLimit: false },
    schema: {
      operationId: 'notifyOfPayment',
      tags: ['payments'],
      summary: 'For the gateway: a payment or a refund changed',
      description: "The gateway's signature replaces the token; see contracts/payments.yaml.",
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
 * @param secret base64 after `whsec_`; any other secret is used as it is
 */
export function standardWebhooks (secret: string, now: () => number = Date.now): ReadNotification {
  const key = secret.startsWith('whsec_') ? Buffer.from(secret.slice('whsec_'.length), 'base64') : Buffer.from(secret)
  return ({ 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures }, body) => {
    if (typeof id !== 'string' || typeof timestamp !== 'string' || typeof signatures !== 'string') throw signatureInvalid('It needs the headers webhook-id, webhook-timestamp and webhook-signature.')
    const expected = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest()
    // There are several while the gateway rotates the secret.
    const isSigned = signatures.split(' ').some(signature => signature.startsWith('v1,') && isSame(Buffer.from(signature.slice('v1,'.length), 'base64'), expected))
    if (!isSigned) throw signatureInvalid('The signature does not match the body and the secret.')
    requireRecent(timestamp, now)
    const message = parsedNotification(body)
    if (!notification.Check(message)) throw new Problem('invalid-request', 'The notification violates its contract. Nothing was done.')
    const { id: changed }: Pick<components['schemas']['Notification'], 'id'> = message
    return changed
  }
}

/** @param timestamp s since 1970 @throws Problem if it is too far from now */
export function requireRecent (timestamp: string, now: () => number): void {
  if (!/^\d{1,12}$/.test(timestamp) || Math.abs(now() / 1_000 - Number(timestamp)) > toleranceS) throw signatureInvalid(`Its time is more than ${toleranceS} s from this clock's.`)
}

export function isSame (a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

export function signatureInvalid (why: string): Problem {
  // RFC 9110 section 15.5.2 asks for a challenge.
  return new Problem('signature-invalid', `The notification was refused. ${why} Nothing was done.`, { headers: { 'www-authenticate': 'Signature' } })
}

export function parsedNotification (body: Buffer): unknown {
  try {
    return JSON.parse(body.toString())
  } catch {
    throw new Problem('invalid-request', 'The notification is not JSON. Nothing was done.')
  }
}
