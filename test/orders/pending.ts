import type { PendingOrder } from '../../orders/intake.ts'

/** The id of the nth order of a test. */
export function idOf (n: number): string {
  return `01900000-0000-7000-8000-${String(n).padStart(12, '0')}`
}

/** The nth order of a test: a pint of ale for alice. */
export function pending (n: number): PendingOrder {
  return { id: idOf(n), customer: 'alice', idempotencyKey: `key-${n}`, fingerprint: 'aa', currency: 'EUR', reference: null, createdAt: new Date(), items: [{ sku: 'ale', quantity: 1 }] }
}
