import { createHmac } from 'node:crypto'

export interface Notice {
  readonly type: 'charge.updated' | 'refund.updated'
  /** The id of the charge or the refund. */
  readonly id: string
}

/** ms without an answer of the receiver after which a notification counts as lost. */
export const answerMs = 2_000
const base64Prefix = 'whsec_'

/**
 * The headers of a message by the Standard Webhooks specification.
 *
 * @param secret base64 after whsec_, otherwise taken as it is
 * @param at s since the epoch
 */
export function signed (secret: string, id: string, at: number, body: string): Record<string, string> {
  const key = secret.startsWith(base64Prefix) ? Buffer.from(secret.slice(base64Prefix.length), 'base64') : Buffer.from(secret)
  const signature = createHmac('sha256', key).update(`${id}.${at}.${body}`).digest('base64')
  return { 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': `v1,${signature}` }
}

/** Sends the same message once for each delay, in ms. It does not check the arrival: a receiver that misses a notification must ask. */
export function send (
  notice: Notice,
  { url, secret, delays, onSend }: { readonly url: string, readonly secret: string, readonly delays: readonly number[], readonly onSend: () => void }
): void {
  const body = JSON.stringify({ ...notice, at: new Date().toISOString() })
  const id = `msg_${crypto.randomUUID()}`
  for (const ms of delays) {
    setTimeout(() => {
      onSend()
      const headers = { 'content-type': 'application/json', ...signed(secret, id, Math.floor(Date.now() / 1_000), body) }
      fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(answerMs) }).then(async response => await response.arrayBuffer(), () => {})
    }, ms)
  }
}
