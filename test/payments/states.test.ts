import { readFileSync } from 'node:fs'
import t from 'tap'
import { uuidv7 } from '../../commit/uuidv7.ts'
import { document, withStates } from '../../docs/orders-and-payments/draw-states.ts'
import { paymentMoves, paymentStates, transitions, type PaymentState } from '../../orders/order.ts'
import { pending } from '../orders/pending.ts'
import { openStore } from '../store.ts'

t.test('the diagrams in the documentation match the tables; `npm run states` draws them', async t => {
  const text = readFileSync(document, 'utf8')
  t.equal(text, withStates(text))
  t.throws(() => withStates('nothing'), /lacks/)
})

t.test('the database moves a payment as the table says, for each state and each outcome', async t => {
  const { store, sql, products } = await openStore(t)
  await products.put({ sku: 'ale', name: 'Pint of ale', unitPrice: 520n, currency: 'EUR', stock: 1_000n })

  /** Makes a payment in this state, with its order in the status where such a payment leaves it. */
  async function paymentIn (state: PaymentState): Promise<{ id: string, orderId: string }> {
    const [id, orderId] = [uuidv7(Date.now()), uuidv7(Date.now())]
    await store.place([{ ...pending(1), id: orderId, idempotencyKey: orderId }])
    const status = state === 'authorised' || state === 'capturing' || state === 'charged' ? 'paid' : state === 'voiding' || state === 'voided' ? 'cancelled' : 'placed'
    await sql.query('UPDATE orders SET status = $2 WHERE id = $1', [orderId, status])
    await sql.query("INSERT INTO payments (id, order_id, attempt, amount, currency, captures, state) VALUES ($1, $2, 1, 520, 'EUR', false, $3)", [id, orderId, state])
    return { id, orderId }
  }
  const stateOf = async (id: string) => (await sql.query<{ state: string }>('SELECT state FROM payments WHERE id = $1', [id])).rows[0]?.state

  for (const by of ['charged', 'authorised', 'pending', 'declined', 'voided', 'unknown', 'not-called', 'ship', 'cancel'] as const) {
    for (const from of paymentStates) {
      const { id, orderId } = await paymentIn(from)
      if (by === 'ship' || by === 'cancel') await sql.query('SELECT move_order($1, NULL, $2, $3, NULL, 1000, NULL)', [orderId, transitions[by].from, transitions[by].to])
      else await sql.query('SELECT settle_payment($1, $2, $3, NULL, NULL, 1000, NULL, NULL)', [id, by, 'ref'])
      const told = paymentMoves.find(move => move.by === by && move.from.some(state => state === from))?.to ?? from
      t.equal(await stateOf(id), told, `${from}, ${by}`)
    }
  }
})
