import { test } from 'tap'
import { digestOf } from '../../digest.ts'
import { acknowledgedIds, acknowledgements, exchanges, isCaught, isHeld, readsOf, rowsOf, stockUp, storedIds, unstream } from './damage.ts'

for (const [name, other] of Object.entries({
  total: { total: 1 },
  currency: { currency: 'USD' },
  reference: { reference: 'table 9' }
})) {
  test(`a stored order with another ${name} is wrong`, async t => {
    isCaught(t, 'wrongContent', (draft, pick) => {
      for (const row of rowsOf(draft, pick(storedIds(draft)))) Object.assign(row, other)
    })
  })

  test(`an acknowledgement with another ${name} is wrong`, async t => {
    isCaught(t, 'wrongContent', (draft, pick) => {
      for (const { order } of acknowledgements(draft, pick(acknowledgedIds(draft)))) Object.assign(order, other)
    })
  })

  test(`a read that shows another ${name} is wrong`, async t => {
    isCaught(t, 'wrongContent', (draft, pick) => {
      Object.assign(pick(exchanges(draft, ({ kind }, { type }) => kind === 'read' && type === 'ok')).completion.order!, other)
    })
  })
}

test('an order that is stored with more than was asked for is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const id = pick(acknowledgedIds(draft, ({ status }) => status !== 'cancelled'))
    for (const { items: [item] } of rowsOf(draft, id)) item!.quantity++
    for (const row of rowsOf(draft, id)) row.total += row.items[0]!.unitPrice
    stockUp(draft, [{ sku: rowsOf(draft, id)[0]!.items[0]!.sku, quantity: 1 }])
  })
})

test('an acknowledged order that is stored with a refused body is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const { order, id } = pick(exchanges(draft, ({ kind }, { problem }) => kind === 'place' && problem === 'idempotency-key-reused').flatMap(({ invocation: { operation } }) => {
      const row = draft.first!.orders.find(({ key, status }) => operation.kind === 'place' && key === operation.key && status !== 'cancelled')
      return operation.kind === 'place' && row && acknowledgements(draft, row.id).some(({ settling }) => !settling) ? { order: operation.order, id: row.id } : []
    }))
    stockUp(draft, rowsOf(draft, id)[0]!.items, -1)
    stockUp(draft, order.items)
    for (const row of rowsOf(draft, id)) {
      row.items.forEach((item, place) => { item.quantity = order.items[place]!.quantity })
      row.total = row.items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0)
    }
  })
})

test('an order that is acknowledged with more than was asked for is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    for (const { order } of acknowledgements(draft, pick(acknowledgedIds(draft)))) {
      order.items[0]!.quantity++
      order.total += order.items[0]!.unitPrice
    }
  })
})

test('an unacknowledged order that is stored with a body nobody sent is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const recovered = pick(storedIds(draft).filter(id => acknowledgements(draft, id)[0]?.settling))
    const { key } = rowsOf(draft, recovered)[0]!
    const settled = new Set(exchanges(draft, operation => operation.kind === 'place' && operation.key === key).filter(({ settling }) => settling).map(({ invocation: { op } }) => op))
    draft.settle = draft.settle.filter(line => !('op' in line) || !settled.has(line.op))
    for (const row of rowsOf(draft, recovered)) row.reference = 'table 9'
  })
})

test('an order with the same item in two lines differs from one with two of the item', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const id = pick(storedIds(draft, ({ items }) => items[0]!.quantity === 2))
    for (const row of rowsOf(draft, id)) row.items.splice(0, 1, { ...row.items[0]!, quantity: 1 }, { ...row.items[0]!, quantity: 1 })
  })
})

test('an order that is stored at another price than that of the catalogue is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    for (const row of rowsOf(draft, pick(storedIds(draft)))) {
      row.items[0]!.unitPrice++
      row.total += row.items[0]!.quantity
    }
  })
})

test('orders are wrong even if all of them have the same wrong price', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const { sku } = rowsOf(draft, pick(acknowledgedIds(draft)))[0]!.items[0]!
    for (const product of draft.products) if (product.sku === sku) product.unitPrice++
  })
})

test('an order of a product that is not in the catalogue is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const { sku } = rowsOf(draft, pick(storedIds(draft)))[0]!.items[0]!
    draft.products = draft.products.filter(product => product.sku !== sku)
  })
})

test('a transition whose answer shows another order is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const { completion } = pick(exchanges(draft, ({ kind }, { type }) => kind === 'pay' && type === 'ok'))
    completion.order!.id = 'another'
  }, ['wrongRead'])
})

test("another customer's order on a page is wrong", async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const { invocation, completion } = pick(exchanges(draft, ({ kind }, { type }) => kind === 'list' && type === 'ok'))
    completion.ids!.push(pick(storedIds(draft, ({ customer }) => customer !== invocation.operation.customer)))
  })
})

test("a read that shows another customer's order is wrong", async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    pick(exchanges(draft, ({ kind }, { type }) => kind === 'read' && type === 'ok')).invocation.operation.customer = 'mallory'
  })
})

test('an order that another customer can read is wrong if others were refused it, or if the target promises own-orders', async t => {
  const intrude: Parameters<typeof isCaught>[2] = (draft, pick) => {
    const { invocation, completion } = pick(exchanges(draft, ({ kind }, { type }) => kind === 'read' && type === 'ok'))
    draft.history.push({ ...invocation, op: 10_001, purpose: 'intrude', operation: { ...invocation.operation, customer: 'mallory' } as typeof invocation.operation }, { ...completion, op: 10_001 })
  }
  isCaught(t, 'wrongContent', (draft, pick) => {
    draft.features = ['own-orders']
    intrude(draft, pick)
  })
  isCaught(t, 'wrongContent', (draft, pick) => {
    intrude(draft, pick)
    draft.history.push({ type: 'invoke', op: 10_002, at: 1, scheduled: 1, purpose: 'intrude', operation: { kind: 'read', customer: 'mallory', id: 'order-1' } }, { type: 'fail', op: 10_002, at: 1, status: 404, problem: 'not-found' })
  })
  isHeld(t, intrude)
})

test("another customer's order on an event stream is wrong", async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const event = pick(draft.history.filter(line => line.type === 'event'))
    event.customer = 'mallory'
    unstream(draft, event.event.orderId, version => version !== event.event.version)
  })
})

test('a row under a key that nobody used is a phantom, and no fault of content', async t => {
  isCaught(t, 'phantom', (draft, pick) => {
    const id = pick(storedIds(draft).filter(id => acknowledgements(draft, id).length === 0))
    for (const { orders } of readsOf(draft)) for (const row of orders) if (row.id === id) row.key = 'a key of nobody'
  })
})

for (const [name, says, other] of [
  ['a Location of another order', 'location', { location: '/orders/0' }],
  ['no Location', 'location', { location: undefined }]
] as const) {
  test(`an acknowledgement with ${name} is wrong`, async t => {
    isCaught(t, 'wrongContent', (draft, pick) => {
      draft.features = [says]
      for (const { completion } of exchanges(draft, ({ kind }) => kind === 'place')) if (completion.order) completion.location = `/orders/${completion.order.id}`
      for (const { completion } of acknowledgements(draft, pick(acknowledgedIds(draft)))) Object.assign(completion, other)
    })
  })
}

test("an order that is acknowledged as another customer's is wrong", async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    for (const { order } of acknowledgements(draft, pick(acknowledgedIds(draft)))) order.customer = 'mallory'
  })
})

test('an order whose items come back in another sequence is wrong if the target promises item-order', async t => {
  const turned: Parameters<typeof isCaught>[2] = (draft, pick) => {
    const id = pick(acknowledgedIds(draft, ({ items }) => items.length > 1))
    // They share their items.
    for (const { order } of acknowledgements(draft, id)) order.items = order.items.toReversed()
    for (const { completion } of exchanges(draft, operation => 'id' in operation && operation.id === id)) {
      if (completion.order) completion.order.items = completion.order.items.toReversed()
    }
  }
  isCaught(t, 'wrongContent', (draft, pick) => {
    draft.features = ['reference', 'item-order']
    turned(draft, pick)
  })
  isHeld(t, turned)
})

test('an order that a page shows with another content is wrong', async t => {
  isCaught(t, 'wrongContent', (draft, pick) => {
    const { id, completion } = pick(acknowledgedIds(draft).flatMap(id => {
      return exchanges(draft, ({ kind }, { ids }) => kind === 'list' && ids?.includes(id) === true).map(page => ({ id, ...page }))
    }))
    const shown = completion.ids!.map(id => {
      const { version, status } = draft.second!.orders.find(row => row.id === id)!
      const [first] = acknowledgements(draft, id)
      return { id, version, status, digest: first ? digestOf(first.order) : '' }
    })
    completion.shown = shown.map(order => order.id === id ? { ...order, digest: 'another' } : order)
    delete completion.ids
  }, ['wrongRead'])
})

test('an order at the newly set price is right, and a later one at the previous price is wrong', async t => {
  const repriced = (draft: Parameters<typeof acknowledgedIds>[0], pick: <T>(from: readonly T[]) => T): number => {
    // At first the price was lower, and then it was raised to that of the catalogue.
    const { sku } = rowsOf(draft, pick(acknowledgedIds(draft)))[0]!.items[0]!
    const product = draft.products.find(product => product.sku === sku)!
    draft.history.unshift(
      { type: 'invoke', op: 10_001, at: 0, scheduled: 0, purpose: 'catalogue', operation: { kind: 'price', customer: 'staff', sku, name: '', currency: 'EUR', unitPrice: product.unitPrice } },
      { type: 'ok', op: 10_001, at: 0, status: 200 }
    )
    return --product.unitPrice
  }
  isHeld(t, repriced)
  isCaught(t, 'wrongContent', (draft, pick) => {
    const old = repriced(draft, pick)
    const sku = draft.products.find(({ unitPrice }) => unitPrice === old)!.sku
    for (const row of rowsOf(draft, pick(storedIds(draft, ({ items }) => items.some(item => item.sku === sku))))) {
      for (const item of row.items.filter(item => item.sku === sku)) {
        item.unitPrice--
        row.total -= item.quantity
      }
    }
  })
})
