import type { Purpose } from '../history.ts'

export type Kind = Exclude<Purpose, 'settle' | 'catalogue'> | 'list' | 'price' | 'restock' | 'stock'
export type Mix = Readonly<Record<Kind, number>>

/** What arrives, in shares of the whole. */
export const usualMix: Mix = {
  /** An order of one to three products that do not run out. */
  new: 24,
  /** An order of the one product that many want: its row is contended. */
  hot: 9,
  /** An order of a product that runs out, together with one that does not. */
  scarce: 8,
  /** An order again, with its key and body; one in four of those is an order of which the client does not know. */
  replay: 9,
  /** One order, sent twice at once. */
  twin: 6,
  /** An earlier key with another body. */
  reuse: 4,
  /** The key of an earlier order, by another customer: a key is each customer's own. */
  'shared-key': 2,
  /** An order whose client goes away before it has the answer. */
  'hang-up': 4,
  /** An order whose body comes in two halves. */
  'slow-body': 3,
  /** Pay or cancel an earlier order; in three of ten cases both at once. */
  transition: 10,
  /** The same with If-Match: right, wrong, stale, or any version. */
  precondition: 4,
  /** Staff ships and delivers; now and then a customer tries to, or staff does it too early. */
  fulfil: 5,
  /** One order paid twice at once, and again where the answer says that nobody knows. */
  'twin-pay': 0,
  /** Staff gives back all of an order's money or a part of it; some ask twice. */
  refund: 0,
  /** An order of somebody else, to read it or to move it on. */
  intrude: 3,
  /** An earlier order. */
  read: 9,
  /** The orders of a customer, page by page. */
  list: 3,
  /** Staff changes a price. */
  price: 1,
  /** Staff adds to a stock; some ask twice. */
  restock: 2,
  /** Staff sets a stock over the version that it has seen. */
  stock: 1
}

/** What comes all at once just before a fault, so that it meets requests on their way. */
export const burstMix: Partial<Mix> = { new: 10, hot: 5, twin: 2, replay: 3, transition: 4 }
