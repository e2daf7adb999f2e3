import { test } from 'tap'
import { acknowledgedIds, acknowledgements, eventsOf, exchanges, forget, isCaught, isHeld, readsOf, rowsOf, stockUp, unstream } from './damage.ts'

test('an acknowledged order that is not stored is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => forget(draft, pick(acknowledgedIds(draft))))
})

test('an acknowledged order that was stored only when it was posted again is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => forget(draft, pick(acknowledgedIds(draft, ({ version }) => version === 1)), [draft.first!]))
})

test('an order that was first acknowledged when it was posted again, and is not stored, is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    const recovered = draft.second!.orders.map(({ id }) => acknowledgements(draft, id)).filter(([first]) => first?.settling).map(([first]) => first!.order.id)
    forget(draft, pick(recovered))
  })
})

test('an order that is stored under another id than the acknowledged one is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    for (const { order } of acknowledgements(draft, pick(acknowledgedIds(draft)))) order.id = 'another'
  }, ['notListed', 'notStreamed'])
})

test('an acknowledged order that is not found afterwards is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { type }) => kind === 'read' && type === 'ok'))
    delete completion.order
    Object.assign(completion, { type: 'fail', status: 404, problem: 'not-found' })
  })
})

test('an acknowledged transition that is not stored is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { type }) => (kind === 'pay' || kind === 'cancel') && type === 'ok'))
    const { id } = completion.order!
    const cancelled = rowsOf(draft, id).some(({ status }) => status === 'cancelled')
    if (cancelled) stockUp(draft, completion.order!.items)
    for (const row of rowsOf(draft, id)) Object.assign(row, { status: 'placed', version: 1 })
    for (const event of eventsOf(draft, id).filter(({ version }) => version > 1)) event.orderId = 'gone'
    for (const read of [draft.first!, draft.second!]) read.events = read.events!.filter(({ orderId }) => orderId !== 'gone')
    unstream(draft, id, version => version > 1)
  }, ['wrongRead'])
})

test('an acknowledged transition that is stored as a different one is lost', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { type }) => (kind === 'pay' || kind === 'cancel') && type === 'ok'))
    const { id, version } = completion.order!
    for (const other of exchanges(draft, ({ kind }, { order }) => kind !== 'place' && order?.id === id && order.version === version)) other.completion.order!.status = 'shipped'
  }, ['wrongRead', 'wrongTransition'])
})

test('an acknowledged transition that is stored as a different one is lost, even without an outbox', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    const { id } = pick(draft.first!.orders.filter(({ version }) => version > 1))
    const last = rowsOf(draft, id)[0]!.version
    pick(exchanges(draft, ({ kind }, { order }) => kind !== 'place' && kind !== 'read' && order?.id === id && order.version === last))
    for (const row of rowsOf(draft, id)) row.status = row.status === 'paid' ? 'shipped' : 'paid'
    for (const read of readsOf(draft)) {
      delete read.events
      delete read.products
    }
  }, ['wrongRead', 'phantom', 'resurrected', 'wrongTransition'])
})

test('a transition is lost if a later read does not show it', async t => {
  isCaught(t, 'lost', (draft, pick) => {
    // The read was sent after the acknowledgement.
    const reads = exchanges(draft, ({ kind }, { type, order }) => kind === 'read' && type === 'ok' && order!.version > 1)
    const steps = exchanges(draft, ({ kind }, { type }) => (kind === 'pay' || kind === 'cancel') && type === 'ok')
    const { completion } = pick(reads.filter(({ invocation, completion }) => steps.some(step => step.completion.at < invocation.at &&
      step.completion.order!.id === completion.order!.id &&
      step.completion.order!.version === completion.order!.version)))
    Object.assign(completion.order!, { status: 'placed', version: 1 })
  })
})

test("a customer who gets not-found for another customer's order has lost nothing", async t => {
  isHeld(t, (draft, pick) => {
    const { invocation, completion } = pick(exchanges(draft, ({ kind }, { type }) => kind === 'read' && type === 'ok'))
    delete completion.order
    Object.assign(completion, { type: 'fail', status: 404, problem: 'not-found' })
    invocation.operation.customer = 'mallory'
  })
})
