import { test } from 'tap'
import { acknowledgedIds, acknowledgements, add, exchanges, isCaught, isHeld, readsOf, storedIds, rowsOf, stockUp } from './damage.ts'

test('a row that is stored twice is a duplicate', async t => {
  isCaught(t, 'duplicated', (draft, pick) => {
    const id = pick(storedIds(draft))
    const [row] = rowsOf(draft, id)
    for (const { orders } of readsOf(draft)) orders.push(structuredClone(orders.find(row => row.id === id)!))
    if (row!.status !== 'cancelled') stockUp(draft, row!.items)
  })
})

test('an id that two keys share is a duplicate', async t => {
  isCaught(t, 'duplicated', (draft, pick) => {
    const [row] = rowsOf(draft, pick(acknowledgedIds(draft, ({ status }) => status === 'placed')))
    const order = { currency: row!.currency, items: row!.items, ...row!.reference !== null && { reference: row!.reference } }
    draft.history.push({ type: 'invoke', op: 10_001, at: 1, scheduled: 1, purpose: 'new', operation: { kind: 'place', customer: row!.customer, key: 'another key', order } })
    for (const { orders } of readsOf(draft)) orders.push({ ...row!, key: 'another key' })
    stockUp(draft, row!.items)
  })
})

test('a second order for one key is a duplicate', async t => {
  isCaught(t, 'duplicated', (draft, pick) => {
    const [row] = rowsOf(draft, pick(storedIds(draft)))
    add(draft, { ...row!, id: 'another', status: 'placed', version: 1 })
  })
})

test('a key that was acknowledged with two ids is a duplicate', async t => {
  isCaught(t, 'duplicated', (draft, pick) => {
    const several = acknowledgedIds(draft).map(id => acknowledgements(draft, id)).filter(({ length }) => length > 1)
    pick(several).at(-1)!.order.id = 'another'
  })
})

test('an order that is twice on one page is a duplicate', async t => {
  isCaught(t, 'duplicated', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { ids }) => kind === 'list' && ids !== undefined && ids.length > 0))
    completion.ids!.push(completion.ids![0]!)
  })
})

for (const [name, other] of Object.entries({
  total: { total: 1 },
  status: { status: 'paid' },
  version: { version: 2 },
  reference: { reference: 'table 9' },
  currency: { currency: 'USD' },
  items: { items: [{ sku: 'ale', quantity: 7, unitPrice: 520 }] }
})) {
  test(`a retry that is answered with another ${name} is a mismatch`, async t => {
    isCaught(t, 'replayMismatch', (draft, pick) => {
      const several = acknowledgedIds(draft).map(id => acknowledgements(draft, id)).filter(({ length }) => length > 1)
      Object.assign(pick(several).at(-1)!.order, other)
    })
  })
}

test('an acknowledged retry with another body is a mismatch', async t => {
  isCaught(t, 'replayMismatch', (draft, pick) => {
    const reuses = exchanges(draft, ({ kind }, { problem }) => kind === 'place' && problem === 'idempotency-key-reused')
    const { completion, first } = pick(reuses.flatMap(({ invocation: { operation }, completion }) => {
      const row = draft.second!.orders.find(({ customer, key }) => operation.kind === 'place' && customer === operation.customer && key === operation.key)
      const [first] = row ? acknowledgements(draft, row.id) : []
      return first && first.completion.at < completion.at ? { completion, first } : []
    }))
    delete completion.problem
    Object.assign(completion, { type: 'ok', status: 201, order: structuredClone(first.order) })
  })
})

test('a refused retry of an acknowledged order is a mismatch', async t => {
  isCaught(t, 'replayMismatch', (draft, pick) => {
    const several = acknowledgedIds(draft).map(id => acknowledgements(draft, id)).filter(({ length }) => length > 1)
    const { completion } = pick(several).at(-1)!
    delete completion.order
    Object.assign(completion, { type: 'fail', status: 409, problem: 'out-of-stock' })
  })
})

test('a twin that is refused while the other is under way is no mismatch, even if the refusal is untrue', async t => {
  isCaught(t, 'falseRefusal', (draft, pick) => {
    const id = pick(acknowledgedIds(draft))
    const { invocation } = acknowledgements(draft, id)[0]!
    // Sent before the first answer arrived, so it may have been decided before it.
    draft.history.splice(draft.history.indexOf(invocation), 0,
      { ...invocation, op: 10_001, purpose: 'twin' })
    draft.history.push({ type: 'fail', op: 10_001, at: 1e6, status: 409, problem: 'unknown-product' })
  })
})

test('an unmarked retry and a first answer marked as a retry are mismatches', async t => {
  const several = (draft: Parameters<typeof acknowledgedIds>[0]) => acknowledgedIds(draft)
    .map(id => acknowledgements(draft, id))
    .filter(([, second]) => second?.settling)
  const marked = (draft: Parameters<typeof acknowledgedIds>[0]) => {
    draft.features = ['replayed']
    // As in the model: a request that was sent before the first answer arrived may be either.
    for (const [first, ...again] of acknowledgedIds(draft).map(id => acknowledgements(draft, id))) {
      for (const { completion } of [...first ? [first] : [], ...again]) if (completion !== first?.completion) completion.replayed = true
    }
    for (const { completion, settling } of exchanges(draft, ({ kind }, { type }) => kind === 'place' && type === 'ok')) if (settling) completion.replayed = true
  }
  isCaught(t, 'replayMismatch', (draft, pick) => {
    marked(draft)
    delete pick(several(draft)).at(-1)!.completion.replayed
  })
  isCaught(t, 'replayMismatch', (draft, pick) => {
    marked(draft)
    const alone = several(draft).filter(([first]) => draft.history.filter(line => line.type === 'invoke' && line.operation.kind === 'place' && line.operation.key === (first?.invocation.operation as { key?: string }).key).length === 1)
    pick(alone)[0]!.completion.replayed = true
  })
})

for (const [name, other] of Object.entries({
  ETag: { etag: '"7"' },
  Location: { location: '/orders/0' }
})) {
  test(`a retry that is answered with another ${name} is a mismatch`, async t => {
    isCaught(t, 'replayMismatch', (draft, pick) => {
      draft.features = ['etag', 'location']
      for (const { completion } of exchanges(draft, () => true)) {
        if (completion.order) Object.assign(completion, { etag: `"${completion.order.version}"`, location: `/orders/${completion.order.id}` })
      }
      const several = acknowledgedIds(draft).map(id => acknowledgements(draft, id)).filter(({ length }) => length > 1)
      Object.assign(pick(several).at(-1)!.completion, other)
    }, ['wrongRead'])
  })
}

test('a retry that is answered with another creation time or another customer is a mismatch', async t => {
  for (const other of [{ createdAt: '2026-01-02T00:00:00Z' }, { customer: 'mallory' }]) {
    isCaught(t, 'replayMismatch', (draft, pick) => {
      for (const { completion, invocation } of exchanges(draft, ({ kind }) => kind === 'place')) {
        if (completion.order) Object.assign(completion.order, { createdAt: '2026-01-01T00:00:00Z', customer: invocation.operation.customer })
      }
      const several = acknowledgedIds(draft).map(id => acknowledgements(draft, id)).filter(({ length }) => length > 1)
      Object.assign(pick(several).at(-1)!.order, other)
    })
  }
})

test('a service that retries internally after a fault of its database may find its own order', async t => {
  isHeld(t, (draft, pick) => {
    draft.features = ['replayed']
    for (const [first, ...again] of acknowledgedIds(draft).map(id => acknowledgements(draft, id))) {
      for (const { completion } of again) if (completion !== first?.completion) completion.replayed = true
    }
    for (const { completion, settling } of exchanges(draft, ({ kind }, { type }) => kind === 'place' && type === 'ok')) if (settling) completion.replayed = true
    const { completion } = pick(acknowledgedIds(draft).flatMap(id => acknowledgements(draft, id).slice(0, 1)))
    completion.replayed = true
    draft.faults = [{ kind: 'database-crash:kill', at: completion.at, exitCode: null, drainMs: null }]
  })
})
