import type { Purpose } from '../history.ts'

export type Kind = Exclude<Purpose, 'settle' | 'catalogue'> | 'list' | 'price' | 'restock' | 'stock'
export type Mix = Readonly<Record<Kind, number>>

/** Kinds of arrivals, in shares of the whole. */
export const usualMix: Mix = {
  /** An order of one to three products that do not run out. */
  new: 24,
  /** An order of the hot product, whose row is contended. */
  hot: 9,
  /** An order of a product that runs out and of one that does not. */
  scarce: 8,
  /** An order sent again with its key and body; one in four is an order with unknown outcome. */
  replay: 9,
  /** One order, sent twice at the same time. */
  twin: 6,
  /** An earlier key with another body. */
  reuse: 4,
  /** The key of another customer's order: each customer has their own keys. */
  'shared-key': 2,
  /** An order whose client hangs up before the answer. */
  'hang-up': 4,
  /** An order whose body is sent in two halves. */
  'slow-body': 3,
  /** Pays or cancels an earlier order; in three of ten cases both at once. */
  transition: 10,
  /** The same with If-Match: current, wrong, stale, or any version. */
  precondition: 4,
  /** Staff ships and delivers; now and then a customer tries it, or staff does it too early. */
  fulfil: 5,
  /** One order paid twice at the same time, and again if the outcome is unknown. */
  'twin-pay': 0,
  /** Staff refunds all or a part of an order's money; some requests are sent twice. */
  refund: 0,
  /** A try to read or change another customer's order. */
  intrude: 3,
  /** Reads an earlier order. */
  read: 9,
  /** Lists the orders of a customer, page by page. */
  list: 3,
  /** Staff changes a price. */
  price: 1,
  /** Staff adds to a stock; some requests are sent twice. */
  restock: 2,
  /** Staff sets a stock at the version that it has read. */
  stock: 1
}

/** The arrivals of a burst just before a fault, so that the fault hits requests under way. */
export const burstMix: Partial<Mix> = { new: 10, hot: 5, twin: 2, replay: 3, transition: 4 }
