import type { Purpose } from '../history.ts'

export type Kind = Exclude<Purpose, 'settle'> | 'list'
export type Mix = Readonly<Record<Kind, number>>

/** What arrives, in shares of the whole. */
export const usualMix: Mix = {
  /** An order of one to three products that do not run out. */
  new: 28,
  /** An order of the one product that many want: its row is contended. */
  hot: 10,
  /** An order of a product that runs out, together with one that does not. */
  scarce: 8,
  /** An order again, with its key and body; one in four of those is an order of which the client does not know. */
  replay: 10,
  /** One order, sent twice at once. */
  twin: 6,
  /** An earlier key with another body. */
  reuse: 4,
  /** An order whose client goes away before it has the answer. */
  'hang-up': 5,
  /** An order whose body comes in two halves. */
  'slow-body': 3,
  /** Pay or cancel an earlier order; in three of ten cases both at once. */
  transition: 10,
  /** An earlier order. */
  read: 12,
  /** The orders of a customer, two or three pages of them. */
  list: 4
}
