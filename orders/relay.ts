import { Relay, type Claimed, type CarriedEvents, type RelayOptions as Options } from '../outbox/relay.ts'
import { messageOf, type OrderMessage } from './publisher.ts'
import type { OrderEvent, Placement } from './order.ts'

/** An event of an order that the relay has to publish. */
export type ClaimedEvent = OrderEvent & Claimed

export type RelayOptions = Options<ClaimedEvent, OrderMessage>

export type PlacedOrder = Extract<Placement, { outcome: 'created' }>

/** Publishes the events of orders. */
export class OutboxRelay extends Relay<ClaimedEvent, OrderMessage> {
  constructor (options: RelayOptions) {
    super(orderEvents, options)
  }

  /**
   * Publishes the `placed` events of these orders, which were stored under a lease of this process.
   *
   * @param since when the lease began, or earlier, by performance.now()
   * @returns resolves when they are settled; never rejects
   */
  async publishPlaced (placed: PlacedOrder[], since: number): Promise<void> {
    await this.publishOwn(placed.map(({ tx, order: { id, version, customer, currency, total, createdAt }, traceparent }) => ({
      tx, orderId: id, version, type: 'placed', customer, currency, total, at: createdAt, attempts: 1, hasFailed: false, traceparent
    })), since)
  }
}

const orderEvents: CarriedEvents<ClaimedEvent, OrderMessage> = {
  messageOf,
  subjectOf: ({ orderId }) => orderId,
  nameOf: ({ orderId, version }) => ({ orderId, version })
}
