import { test } from 'tap'
import type { Evidence } from '../../judge/evidence.ts'
import { acknowledgements, type Draft, exchanges, isCaught, isHeld, type Pick } from './damage.ts'

/** The event of an order that was acknowledged while the stream was open, and its place in the history. */
function owed (draft: Draft<Evidence>, pick: Pick, version = 1) {
  return pick(draft.history.flatMap((line, place) => {
    if (line.type !== 'event' || line.event.version !== version) return []
    const { orderId, type } = line.event
    const acknowledged = version === 1
      ? acknowledgements(draft, orderId).some(({ settling }) => !settling)
      : exchanges(draft, operation => operation.kind !== 'read' && 'id' in operation && operation.id === orderId).some(({ completion: { type: outcome, order } }) => outcome === 'ok' && order?.version === version && order.status === type)
    return acknowledged ? { line, place } : []
  }))
}

test('an event that an open stream does not send is caught', async t => {
  isCaught(t, 'notStreamed', (draft, pick) => { draft.history.splice(owed(draft, pick).place, 1) }, ['state'])
})

test('the event of a transition that an open stream does not send is caught', async t => {
  isCaught(t, 'notStreamed', (draft, pick) => { draft.history.splice(owed(draft, pick, 2).place, 1) })
})

test('a stream that sends nothing at all is caught', async t => {
  isCaught(t, 'notStreamed', (draft, pick) => {
    owed(draft, pick)
    draft.history = draft.history.filter(({ type }) => type !== 'event')
  })
})

test('a stream that ended and resumed from its last event must send what happened meanwhile', async t => {
  isCaught(t, 'notStreamed', (draft, pick) => {
    const { place } = owed(draft, pick)
    draft.history.splice(place, 1, { type: 'stream', at: 1, customer: 'alice', state: 'ended' }, { type: 'stream', at: 1, customer: 'alice', state: 'opened', after: '7' })
  }, ['state'])
})

for (const [name, state] of Object.entries({
  'was opened without a last event': { state: 'opened' },
  'says that there is a gap': { state: 'gap' }
} as const)) {
  test(`a stream that ${name} owes no earlier event`, async t => {
    isHeld(t, (draft, pick) => {
      draft.history.splice(owed(draft, pick).place, 1, { type: 'stream', at: 1, customer: 'alice', ...state })
    })
  })
}

test('a stream owes no event that happens after its client has closed it', async t => {
  isHeld(t, (draft, pick) => {
    const { line } = owed(draft, pick)
    draft.history = draft.history.filter(({ type }) => type !== 'stream')
    draft.history.splice(0, 0, { type: 'stream', at: 0, customer: 'alice', state: 'opened' }, { type: 'stream', at: 0, customer: 'alice', state: 'closed' })
    draft.history.splice(draft.history.indexOf(line), 1)
  })
})

for (const [name, later, right] of [['a second before', 2_000, 'caught'], ['just before', 0, 'held']] as const) {
  test(`an event of staff ${name} the client closed its stream is ${right === 'caught' ? 'owed' : 'not owed'}`, async t => {
    const byStaff = (draft: Draft<Evidence>, pick: Pick): void => {
      const { line, place } = owed(draft, pick, 2)
      draft.history.splice(place, 1)
      for (const { invocation: { operation } } of exchanges(draft, operation => 'id' in operation && operation.id === line.event.orderId)) {
        if (operation.kind === 'pay' || operation.kind === 'cancel') Object.assign(operation, { customer: 'staff', staff: true })
      }
      for (const each of draft.history) if (each.type === 'stream' && each.state === 'closed') each.at += later
    }
    if (right === 'caught') isCaught(t, 'notStreamed', byStaff)
    else isHeld(t, byStaff)
  })
}
