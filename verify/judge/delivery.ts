import { type Case, type Looked, noRead, subjectOf, subjectOfRow } from './case.ts'
import { type Stored, toldAs } from './stored.ts'

/**
 * The harness's own consumer received every event, whatever the service says: at least once, in sequence for each order, and
 * none without its commit. An event may be repeated, but none first arrives after a later one of its order.
 */
export function undelivered (trial: Case): Looked {
  const { deliveries, reads, findings } = trial
  if (deliveries === undefined) return { looked: null, because: 'The target does not send its events to a consumer of the harness.' }
  const rest = reads.find(({ afterSettling }) => afterSettling)
  if (rest === undefined) return noRead
  let looked = 0

  const received = new Map<string, Set<number>>()
  for (const { orderId, version, type } of deliveries) {
    looked++
    const versions = received.get(orderId)
    if (versions === undefined) received.set(orderId, new Set([version]))
    else if (!versions.has(version)) {
      if (Math.max(...versions) > version) findings.add('undelivered', subjectOf(trial, orderId), `Version ${version} of order ${orderId} was delivered for the first time after version ${Math.max(...versions)}.`)
      versions.add(version)
    }
    if (!happened(rest, orderId, version, type)) findings.add('undelivered', subjectOf(trial, orderId), `An event was delivered that order ${orderId} was ${type} at version ${version}, and that is not stored.`)
  }
  for (const row of rest.snapshot.orders) {
    for (let version = 1; version <= row.version; version++) {
      looked++
      if (received.get(row.id)?.has(version) !== true) findings.add('undelivered', subjectOfRow(row), `The event of order ${row.id} at version ${version} reached no consumer.`)
    }
  }
  return { looked }
}

/** If events are not stored, they are derived from the order itself. */
function happened ({ events, byId }: Stored, orderId: string, version: number, type: string): boolean {
  if (events !== undefined) return events.get(orderId)?.some(event => event.version === version && toldAs(event) === type) === true
  return byId.get(orderId)?.some(row => version < row.version || (version === row.version && type === row.status)) === true
}
