import type { Invariant } from '../../../verify/verdict.ts'
import { sabotaged } from '../sabotage.ts'
import type { SaboteurName } from '../saboteurs/saboteurs.ts'
import { withPlacing } from './database.ts'
import { aStop, type Flaw, type Setting } from './flaw.ts'
import { oneByOne, withSettings } from './service.ts'
import { withTrigger } from './sql.ts'
import type { ShareName } from './shares.ts'

type Row = readonly [name: SaboteurName, expected: Invariant, broken: string]

/** Flaws by saboteurs in the service's process, which know nothing about its source. */
export const sabotage: readonly Flaw[] = [
  // Two stops of a busy service prove nothing where both meet a moment in which nothing is in flight.
  ...own({ ...aStop, duration: 9_000 }, [
    ['exit-at-once', 'abandoned', 'The process exits with 0 at SIGTERM'],
    ['cuts-connections', 'abandoned', 'A stop cuts every connection first, and reports that it was clean']
  ]),
  {
    name: 'exit-code-0',
    broken: 'A stop abandons requests, and the exit code is 0',
    expected: 'falseReport',
    isSaboteur: true,
    setting: { ...aStop, duration: 3_000 },
    // It abandons requests at the deadline.
    break: target => withSettings(sabotaged(target, 'exit-code-0', null), { REQUEST_TIMEOUT_MS: '2000', DRAIN_DEADLINE_MS: '3000' })
  },
  {
    name: 'unread-unseen',
    broken: 'A stop waits for clients that do not read their answers',
    expected: 'uncleanStop',
    isSaboteur: true,
    // Short limits, because the stop waits for these clients until its deadline.
    setting: { scenario: 'hostile:slow-readers', duration: 12_000, rest: 500, env: { REQUEST_TIMEOUT_MS: '2000', DRAIN_DEADLINE_MS: '3000' } },
    break: target => sabotaged(target, 'unread-unseen', null)
  },
  ...own({ scenario: 'rolling', duration: 2_000 }, [
    ['closes-at-once', 'failedRequest', 'An instance closes its listener as soon as it is told to stop']
  ]),
  // Its stops last until the deadline, so that is short.
  ...own({ scenario: 'rolling', duration: 2_000, env: { REQUEST_TIMEOUT_MS: '2000', DRAIN_MAX_MS: '1000', DRAIN_DEADLINE_MS: '4000' } }, [
    ['pool-closes-at-once', 'failedRequest', 'An instance closes its pool of connections as soon as it is told to stop']
  ]),
  // Requests go on arriving, so it is never quiet, and it closes nevertheless.
  ...own({ scenario: 'rolling', duration: 5_000, rest: 200, env: { DRAIN_MAX_MS: '1500' } }, [
    ['always-ready', 'failedRequest', 'An instance says that it is ready until it exits, to the readiness probe and to the agent check']
  ]),
  ...own({ scenario: 'brownout', duration: 5_000, mix: { new: 100 } }, [
    ['not-started-while-begun', 'resurrected', 'In a brownout a slow order is answered as "not started", but stored']
  ]),
  {
    name: 'closing-waits-for-nothing',
    broken: 'A stop that no longer accepts does not wait for requests that have begun',
    expected: 'abandoned',
    isSaboteur: true,
    setting: aStop,
    // An order must take some time, or all would have ended before the listener is closed.
    break: target => withTrigger(sabotaged(target, 'closing-waits-for-nothing', null), 'orders', 'BEFORE', 'PERFORM pg_sleep(0.02); RETURN NEW;')
  },
  {
    name: 'lease-ends-unpublished',
    broken: 'Events of a killed process are never published, although their lease has expired',
    expected: 'undelivered',
    isSaboteur: true,
    setting: { scenario: 'kill', duration: 5_000 },
    // The lease ends soon after the kill, and not half a minute later.
    break: target => withPlacing(sabotaged(target, 'lease-ends-unpublished', null), [["now() + lease_ms * interval '1 ms'", "now() + interval '2 s'"]])
  },
  ...shared('all', 'everybody', [
    ['report-lies', 'falseReport', 'The report of a stop calls completed requests abandoned'],
    ['published-not-marked', 'outboxMissing', 'The statement that marks events as published is not run, and the service is told that it succeeded'],
    ['read-of-anybody', 'wrongContent', "A customer reads another's order"],
    ['stream-skips-at-reconnect', 'notStreamed', 'A reopened stream begins with the present, not where it ended']
  ]),
  ...shared('keys', 'everybody', [
    ['delivery-swallowed', 'undelivered', 'One delivery of events in four is not sent, but reported as received'],
    ['throws-in-stop', 'uncleanStop', 'A stop throws an error that nothing catches']
  ]),
  ...shared('stock', 'everybody', [
    ['clock-drifts', 'replayMismatch', "The service's clock runs sixty times too fast"],
    ['stream-of-everybody', 'wrongContent', 'A stream delivers the events of every customer'],
    ['stream-invents', 'outboxMissing', 'A stream delivers an invented event instead of a real one']
  ]),

  ...shared('answers', 'guests', [
    ['read-status', 'wrongRead', 'A read shows an unshipped order as shipped'],
    ['read-total', 'wrongContent', 'A read shows another total'],
    ['read-stale', 'lost', 'A read shows an old state of an order'],
    ['page-skips', 'notListed', 'A page leaves out its second to last order'],
    ['page-without-newest', 'notListed', 'The first page leaves out the newest order'],
    ['page-twice', 'notListed', 'A page shows one order twice instead of another'],
    ['page-ends-early', 'notListed', 'A page leaves out its last order, and says that it is the last page'],
    ['page-status', 'wrongRead', 'A page shows an unshipped order as shipped'],
    ['wrong-etag', 'wrongRead', 'A 201 has the ETag of another version'],
    ['wrong-location', 'wrongContent', 'A 201 has the Location of another order'],
    ['wrong-customer', 'wrongContent', "A 201 shows another customer's name"],
    ['items-reversed', 'wrongContent', 'A 201 shows the items in another sequence'],
    ['time-of-replay', 'replayMismatch', 'A retry is answered with the time of the retry'],
    ['price-of-today', 'replayMismatch', 'A retry is answered with other prices'],
    ['replay-moved-on', 'replayMismatch', 'A retry is answered with the current state of the order'],
    ['false-out-of-stock', 'falseRefusal', 'An order is refused as out of stock although there is enough']
  ]),
  ...shared('answers', 'regulars', [
    ['stream-silent', 'notStreamed', 'A stream delivers nothing'],
    ['stream-skips', 'notStreamed', 'A stream leaves out some events'],
    ['page-invents', 'notListed', 'A page shows an invented order instead of a real one'],
    ['page-total', 'wrongContent', 'A page shows another total']
  ]),
  ...shared('changes', 'guests', [
    ['replayed-always', 'replayMismatch', 'A first answer says that it is a replay'],
    ['stored-not-started', 'resurrected', 'An order is stored, and its client is told that nothing was started'],
    ['moved-not-started', 'resurrected', 'A transition is made, and its client is told that nothing was started'],
    ['pay-does-nothing', 'lost', 'Pay does nothing, and answers 200'],
    ['not-allowed-says-200', 'lost', 'A forbidden transition is answered with 200'],
    ['if-match-ignored', 'wrongTransition', 'If-Match is ignored'],
    ['move-rolled-back', 'lost', 'The statement of a transition is rolled back, and the service is told that it succeeded'],
    ['one-fingerprint', 'replayMismatch', 'A key with another body is answered as a replay']
  ]),
  {
    name: 'place-rolled-back',
    broken: 'The statement that stores orders is rolled back, and the service is told that it succeeded',
    expected: 'lost',
    isSaboteur: true,
    share: 'changes',
    of: 'guests',
    // Otherwise a statement rarely has the orders of one customer alone.
    break: (target, customer) => withSettings(sabotaged(target, 'place-rolled-back', customer), oneByOne)
  },
  ...shared('changes', 'regulars', [
    ['stream-out-of-order', 'notStreamed', "A stream delivers an order's second event before its first, or never"]
  ])
]

function own (setting: Setting, rows: readonly Row[]): Flaw[] {
  return rows.map(([name, expected, broken]) => ({ name, expected, broken, isSaboteur: true, setting, break: target => sabotaged(target, name, null) }))
}

function shared (share: ShareName, of: 'regulars' | 'guests' | 'everybody', rows: readonly Row[]): Flaw[] {
  return rows.map(([name, expected, broken]) =>
    ({ name, expected, broken, isSaboteur: true, share, of, break: (target, customer) => sabotaged(target, name, customer) }))
}
