import { test } from 'tap'
import type { Evidence } from '../../judge/evidence.ts'
import { acknowledgedIds, acknowledgements, type Draft, exchanges, isCaught, isHeld } from './damage.ts'

/** The pages that were requested after that order was acknowledged. */
function pagesAfter (draft: Draft<Evidence>, id: string) {
  const [{ invocation, completion }] = acknowledgements(draft, id) as [ReturnType<typeof acknowledgements>[number]]
  return exchanges(draft, ({ kind, customer }, { type }) => kind === 'list' && type === 'ok' && customer === invocation.operation.customer)
    .filter(page => draft.history.indexOf(page.invocation) > draft.history.indexOf(completion))
}

function listed (draft: Draft<Evidence>, pick: <T>(from: readonly T[]) => T) {
  return pick(acknowledgedIds(draft).flatMap(id => pagesAfter(draft, id).map(page => ({ id, ...page }))))
}

test('a list that omits an order acknowledged earlier is caught', async t => {
  isCaught(t, 'notListed', (draft, pick) => {
    const { id, completion } = listed(draft, pick)
    completion.ids = completion.ids!.filter(other => other !== id)
  })
})

test('a list with the same order on two pages is caught', async t => {
  isCaught(t, 'notListed', (draft, pick) => {
    const { id, invocation, completion } = listed(draft, pick)
    completion.next = 'next'
    draft.history.push(
      { ...invocation, op: 10_001, operation: { ...invocation.operation, cursor: 'next' } as typeof invocation.operation },
      { type: 'ok', op: 10_001, at: 1e6, status: 200, ids: [id] }
    )
  })
})

test('an order on the second page does not count as omitted', async t => {
  isHeld(t, (draft, pick) => {
    const { id, invocation, completion } = listed(draft, pick)
    completion.ids = completion.ids!.filter(other => other !== id)
    completion.next = 'next'
    draft.history.push(
      { ...invocation, op: 10_001, operation: { ...invocation.operation, cursor: 'next' } as typeof invocation.operation },
      { type: 'ok', op: 10_001, at: 1e6, status: 200, ids: [id] }
    )
  })
})

test('a list that was not read to its end omits nothing', async t => {
  for (const unfinished of ['a next page', 'a page that failed']) {
    isHeld(t, (draft, pick) => {
      const { invocation, completion } = listed(draft, pick)
      completion.ids = []
      completion.next = 'next'
      if (unfinished === 'a next page') return
      draft.history.push(
        { ...invocation, op: 10_001, operation: { ...invocation.operation, cursor: 'next' } as typeof invocation.operation },
        { type: 'info', op: 10_001, at: 1e6, error: 'ECONNRESET' }
      )
    })
  }
})
