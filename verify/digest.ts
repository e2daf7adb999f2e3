import { createHash } from 'node:crypto'
import type { OrderAnswered } from './history.ts'

/** Equal for two answers about an order that agree in all but its status and version, which may change. */
export function digestOf ({ id, currency, total, items, reference, customer, createdAt }: OrderAnswered): string {
  const content = JSON.stringify([id, currency, total, items.map(({ sku, quantity, unitPrice }) =>
    [sku, quantity, unitPrice]), reference ?? null, customer ?? null, createdAt ?? null])
  return createHash('sha1').update(content).digest('base64url').slice(0, 8)
}
