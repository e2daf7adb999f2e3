import type { Order, OrderItem, OrderRefund, OrderReturn, Payment, Transitioned } from './order.ts'

/** The JSON of the functions in prisma/migrations. Its numbers are exact, because no total is above 2⁵³ − 1. */
export type StoredItem = Omit<OrderItem, 'unitPrice'> & { unitPrice: number }
export type StoredOrder = Omit<Order, 'items' | 'total' | 'createdAt'> & { items: StoredItem[] | null, total: number, createdAt: string }
export type StoredRefund = Omit<OrderRefund, 'amount' | 'requestedAt' | 'settledAt'> & { amount: number, requestedAt: string, settledAt: string | null }
export type StoredPayment = Omit<Payment, 'amount' | 'requestedAt' | 'settledAt' | 'refunds'> & { amount: number, requestedAt: string, settledAt: string | null, refunds: StoredRefund[] }

export type StoredReturn = Omit<OrderReturn, 'items' | 'value' | 'refund' | 'createdAt'> & { items: StoredItem[], value: number, refund: StoredRefund | null, createdAt: string }

export type StoredTransition =
  | { outcome: 'moved' | 'already' | 'not-allowed' | 'version-mismatch' | 'nothing-left', order: StoredOrder }
  | { outcome: 'payment-under-way' | 'capture', order: StoredOrder, payment: StoredPayment }
  | { outcome: 'not-found' }

export function itemsOf (items: StoredItem[] | null): OrderItem[] {
  return items?.map(item => ({ ...item, unitPrice: BigInt(item.unitPrice) })) ?? []
}

export function orderOf ({ items, total, createdAt, ...order }: StoredOrder): Order {
  return { ...order, items: itemsOf(items), total: BigInt(total), createdAt: new Date(createdAt) }
}

export function paymentOf ({ amount, requestedAt, settledAt, refunds, ...payment }: StoredPayment): Payment {
  return {
    ...payment,
    amount: BigInt(amount),
    requestedAt: new Date(requestedAt),
    settledAt: settledAt === null ? null : new Date(settledAt),
    refunds: refunds.map(refundOf)
  }
}

export function refundOf ({ amount, requestedAt, settledAt, ...refund }: StoredRefund): OrderRefund {
  return { ...refund, amount: BigInt(amount), requestedAt: new Date(requestedAt), settledAt: settledAt === null ? null : new Date(settledAt) }
}

export function returnOf ({ items, value, refund, createdAt, ...returned }: StoredReturn): OrderReturn {
  return { ...returned, items: itemsOf(items), value: BigInt(value), refund: refund && refundOf(refund), createdAt: new Date(createdAt) }
}

export function transitionedOf (moved: StoredTransition): Transitioned {
  switch (moved.outcome) {
    case 'not-found': return moved
    case 'payment-under-way':
    case 'capture': return { outcome: moved.outcome, order: orderOf(moved.order), payment: paymentOf(moved.payment) }
    default: return { outcome: moved.outcome, order: orderOf(moved.order) }
  }
}
