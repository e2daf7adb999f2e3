import t from 'tap'
import { readAtRest } from '../at-rest.ts'
import type { OrderStored, Run, Snapshot, Target } from '../target.ts'

const run: Run = { directory: '', databaseUrl: '', directDatabaseUrl: '', products: [] }

t.test('the final read is repeated until nothing changes any more', async t => {
  const { target, reads } = storing([{ orders: [] }, { orders: [order('1')] }, { orders: [order('1')] }])
  t.strictSame(await readAtRest(target, run), { orders: [order('1')] })
  t.equal(reads(), 3)
})

t.test('the stored data is not at rest while an event is still undelivered', async t => {
  const event = { orderId: '1', version: 1, type: 'placed' }
  const waiting: Snapshot = { orders: [order('1')], events: [{ ...event, delivered: false }] }
  const delivered: Snapshot = { orders: [order('1')], events: [{ ...event, delivered: true }] }
  const { target, reads } = storing([waiting, waiting, waiting, delivered, delivered])
  t.strictSame(await readAtRest(target, run), delivered)
  t.equal(reads(), 5)
})

function storing (snapshots: readonly Snapshot[]): { target: Pick<Target, 'snapshot'>, reads: () => number } {
  let reads = 0
  return {
    reads: () => reads,
    target: {
      async snapshot () {
        const snapshot = snapshots[reads++]
        if (snapshot === undefined) throw new Error('The data was read once too often.')
        return snapshot
      }
    }
  }
}

function order (id: string): OrderStored {
  return { id, customer: 'alice', key: id, status: 'placed', version: 1, currency: 'EUR', items: [], total: 0, reference: null }
}
