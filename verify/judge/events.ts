import { isTransition } from '../history.ts'
import type { EventStored, OrderStored } from '../target.ts'
import { type Case, type Looked, noRead, stateOf, subjectOf, subjectOfRow } from './case.ts'
import { type Stored, toldAs } from './stored.ts'

const noEvents = 'The target tells of no outbox.'

/** Every change of an order has one event, and the event was delivered. */
export function outboxMissing (trial: Case): Looked {
  const { reads, told, findings } = trial
  if (reads.length === 0) return noRead
  const placed = stateOf(trial, 'placed')
  let looked: number | null = null
  for (const { events, byId, snapshot: { orders } } of reads) {
    if (!events) continue
    looked ??= 0
    for (const row of orders) {
      looked++
      const fault = incomplete(row, events.get(row.id) ?? [], placed)
      if (fault) findings.add('outboxMissing', subjectOfRow(row), `Order ${row.id} is at version ${row.version} and ${fault}.`)
    }
    for (const id of events.keys()) {
      looked++
      if (!byId.has(id)) findings.add('outboxMissing', subjectOf(trial, id), `There are events of order ${id}, which is not stored.`)
    }
  }
  if (looked === null) return { looked, because: noEvents }
  // Before that, events may be under way.
  const rest = reads.find(({ afterSettling }) => afterSettling)
  if (!rest?.events) return { looked }
  for (const { orderId, version, delivered } of rest.snapshot.events ?? []) {
    looked++
    if (!delivered) findings.add('outboxMissing', subjectOf(trial, orderId), `The event of order ${orderId} at version ${version} was never delivered.`)
  }
  for (const { event: { orderId, version, type }, customer } of told.streamed) {
    looked++
    if (rest.events.get(orderId)?.some(stored => stored.version === version && toldAs(stored) === type)) continue
    findings.add('outboxMissing', subjectOf(trial, orderId), `${customer} was told that order ${orderId} was ${type} at version ${version}, and no such event is stored.`)
  }
  return { looked }
}

function incomplete (row: OrderStored, events: readonly EventStored[], placed: string): string | undefined {
  if (events.filter(({ version, type }) => version === 1 && type === placed).length !== 1) return 'has not exactly one event of its placing'
  for (let version = 1; version <= row.version; version++) {
    const there = events.filter(event => event.version === version).length
    if (there !== 1) return `has ${there} events for version ${version}`
  }
}

/** The history of an order is a path of the state machine, and all answers agree with it. */
export function state (trial: Case): Looked {
  const { evidence: { transitions }, reads, findings } = trial
  let looked = statusesOfVersions(trial) + orderOfEvents(trial)
  for (const read of reads) {
    if (!read.events) continue
    for (const row of read.snapshot.orders) {
      looked++
      const fault = offPath(row, read, transitions)
      if (fault) findings.add('state', subjectOfRow(row), `Order ${row.id} ${fault}.`)
    }
  }
  if (reads.length === 0) return { looked, because: 'There was no final read, so only the answers were checked.' }
  if (!reads.some(({ events }) => events)) return { looked, because: `${noEvents} Only the answers were checked.` }
  return transitions ? { looked } : { looked, because: 'The target names no transitions, so versions were checked, and steps were not.' }
}

function offPath (row: OrderStored, read: Stored, transitions: Readonly<Record<string, readonly string[]>> | undefined): string | undefined {
  const events = read.events?.get(row.id) ?? []
  let previous: EventStored | undefined
  for (const event of events) {
    if (previous && event.version > previous.version + 1) return `went from version ${previous.version} to ${event.version}`
    // An event that is stored twice is one transition.
    const stepped = previous && (event.version > previous.version || event.type !== previous.type)
    // A refund makes a version, and no transition.
    const stays = event.event !== undefined && event.type === previous?.type
    if (previous && stepped && (event.version === previous.version || (transitions && !stays && !transitions[previous.type]?.includes(event.type)))) {
      return `went from ${previous.type}, version ${previous.version}, to ${event.type}, version ${event.version}`
    }
    previous = event
  }
  // The check of the outbox reports missing last events.
  if (previous && previous.version >= row.version && (previous.version > row.version || previous.type !== row.status)) {
    return `is stored as ${row.status}, version ${row.version}, and its last event is ${previous.type}, version ${previous.version}`
  }
}

/** Two acknowledged transitions that both made the same version cannot both have happened. */
function statusesOfVersions (trial: Case): number {
  const statuses = new Map<string, string>()
  let looked = 0
  for (const { invocation: { operation }, completion } of trial.told.exchanges) {
    if (!isTransition(operation)) continue
    if (completion?.type !== 'ok' || !completion.order) continue
    looked++
    const { version, status } = completion.order
    const made = `${operation.id} ${version}`
    const other = statuses.get(made)
    if (other === undefined) statuses.set(made, status)
    else if (other !== status) trial.findings.add('state', subjectOf(trial, operation.id), `Version ${version} of order ${operation.id} was acknowledged as ${other} and as ${status}.`)
  }
  return looked
}

/**
 * Events arrive at least once, in sequence for each order: an event may be repeated, and a reopened stream may begin in the
 * middle, but no event first arrives after a later one. (Each customer has one open stream at a time.)
 */
function orderOfEvents (trial: Case): number {
  const seen = new Map<string, number[]>()
  for (const { customer, event: { orderId, version } } of trial.told.streamed) {
    const name = `${customer} ${orderId}`
    const versions = seen.get(name) ?? []
    if (!versions.includes(version) && versions.some(before => before > version)) {
      trial.findings.add('state', subjectOf(trial, orderId), `${customer} was first told of version ${version} of order ${orderId} after a later one.`)
    }
    versions.push(version)
    seen.set(name, versions)
  }
  return trial.told.streamed.length
}
