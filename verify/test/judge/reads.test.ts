import { test } from 'tap'
import { exchanges, isCaught, isHeld, readsOf } from './damage.ts'

const isRead = ({ kind }: { kind: string }, { type }: { type: string }) => kind === 'read' && type === 'ok'

test('a read that shows a status that the order never had at that version is caught', async t => {
  isCaught(t, 'wrongRead', (draft, pick) => { pick(exchanges(draft, isRead)).completion.order!.status = 'shipped' })
})

test('a read that shows a version that the order never reached is caught', async t => {
  isCaught(t, 'wrongRead', (draft, pick) => { pick(exchanges(draft, isRead)).completion.order!.version += 7 })
})

test('a read that shows a status that the order never had is caught, even without an outbox', async t => {
  isCaught(t, 'wrongRead', (draft, pick) => {
    const { completion } = pick(exchanges(draft, isRead).filter(({ completion }) => completion.order!.version === 1))
    completion.order!.status = 'delivered'
    for (const read of readsOf(draft)) delete read.events
  })
})

test('a page that shows an order that is not stored is caught', async t => {
  isCaught(t, 'wrongRead', (draft, pick) => {
    pick(exchanges(draft, ({ kind }, { type }) => kind === 'list' && type === 'ok')).completion.ids!.push('of nobody')
  })
})

test('the orders on a page are compared with the stored ones', async t => {
  for (const other of [{ status: 'shipped' }, { version: 9 }]) {
    isCaught(t, 'wrongRead', (draft, pick) => {
      const { completion } = pick(exchanges(draft, ({ kind }, { ids }) => kind === 'list' && ids !== undefined && ids.length > 0))
      const { id, version, status } = draft.second!.orders.find(({ id }) => id === completion.ids![0])!
      completion.shown = [{ id, version, status, digest: '', ...other }]
      delete completion.ids
    }, ['wrongContent', 'notListed'])
  }
})

test('a read with the ETag of another version is caught, and so is one without an ETag', async t => {
  for (const damage of ['"1"', '"of another"', undefined]) {
    isCaught(t, 'wrongRead', (draft, pick) => {
      draft.features = ['etag']
      for (const { completion } of exchanges(draft, () => true)) if (completion.order) completion.etag = `"${completion.order.version}"`
      const { completion } = pick(exchanges(draft, isRead).filter(({ completion }) => completion.order!.version > 1))
      if (damage === undefined) delete completion.etag
      else completion.etag = damage
      // Another answer has the right one.
      const right = exchanges(draft, () => true).find(other => other.completion === completion)!
      draft.history.splice(draft.history.indexOf(right.invocation), 0, { ...right.invocation, op: 10_001 })
      draft.history.splice(draft.history.indexOf(completion), 0, { ...completion, op: 10_001, etag: `"${completion.order!.version}"` })
    })
  }
})

test('a read before a failover may show what only the primary had', async t => {
  isHeld(t, (draft, pick) => {
    const { completion } = pick(exchanges(draft, isRead))
    completion.order!.version += 1
    completion.order!.status = 'shipped'
    draft.faults = [{ kind: 'failover', at: completion.at + 1, exitCode: null, drainMs: null, recoveredAt: completion.at + 2 }]
  })
})
