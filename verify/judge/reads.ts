import { isOnOrder } from '../history.ts'
import { type Case, type Looked, noRead, stateOf, subjectOf } from './case.ts'
import type { Stored } from './stored.ts'
import type { Exchange } from './told.ts'

/**
 * Every answer shows a state that the order had: each version has one status, and there is none beyond the last. A version has
 * one ETag, and no other version has the same.
 */
export function wrongRead (trial: Case): Looked {
  const read = trial.reads.at(-1)
  if (read === undefined) return noRead
  let looked = etags(trial)
  for (const exchange of trial.told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (completion?.type !== 'ok') continue
    if (completion.order && isOnOrder(operation)) {
      looked++
      explain(trial, read, exchange, completion.order, `the answer to ${operation.kind} it`)
    }
    for (const shown of completion.shown ?? []) {
      looked++
      explain(trial, read, exchange, shown, 'a page')
    }
    for (const id of completion.ids ?? []) {
      looked++
      if (!isStored(trial, read, id) && !mayBeUndone(trial, exchange)) trial.findings.add('wrongRead', { orderId: id }, `A page showed order ${id}, of which nothing is stored.`, exchange)
    }
  }
  return { looked }
}

interface Shown { readonly id: string, readonly version: number, readonly status: string }

function explain (trial: Case, read: Stored, exchange: Exchange, { id, version, status }: Shown, where: string): void {
  const tell = (says: string) => trial.findings.add('wrongRead', subjectOf(trial, id), `Order ${id}: ${where} showed it ${status} at version ${version}, ${says}.`, exchange)
  const [row] = read.byId.get(id) ?? []
  if (row === undefined) {
    // If it was acknowledged, the check of lost orders reports it.
    if (!isStored(trial, read, id) && !mayBeUndone(trial, exchange)) tell('and nothing of it is stored')
    return
  }
  if (version > row.version) {
    if (!mayBeUndone(trial, exchange)) tell(`and it only came to ${row.version}`)
    return
  }
  const [event] = read.events?.get(id)?.filter(event => event.version === version) ?? []
  const had = version === row.version ? row.status : event?.type ?? (version === 1 ? stateOf(trial, 'placed') : undefined)
  if (had !== undefined && had !== status && !mayBeUndone(trial, exchange)) tell(`where it was ${had}`)
}

function isStored ({ told }: Case, read: Stored, id: string): boolean {
  return read.byId.has(id) || told.acknowledged.has(id)
}

/** A primary may show what its standby does not have yet, and then fail. Other checks cover acknowledged changes. */
function mayBeUndone ({ evidence: { faults } }: Case, { completion }: Exchange): boolean {
  return faults.some(({ kind, at, recoveredAt }) => kind.startsWith('failover') && (completion?.at ?? 0) < (recoveredAt ?? at))
}

function etags (trial: Case): number {
  if (!trial.features.has('etag')) return 0
  const etagsOf = new Map<string, Map<number, string>>()
  let looked = 0
  for (const exchange of trial.told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (completion?.type !== 'ok' || !completion.order || (operation.kind !== 'place' && !isOnOrder(operation))) continue
    looked++
    const { order: { id, version }, etag } = completion
    const known = etagsOf.get(id) ?? new Map<number, string>()
    etagsOf.set(id, known)
    const other = known.get(version)
    const says = etag === undefined
      ? 'came without an ETag'
      : other !== undefined && other !== etag
        ? `came with the ETag ${other} and with ${etag}`
        : other === undefined && [...known.values()].includes(etag) ? `has the ETag ${etag} of another version` : undefined
    if (says !== undefined) trial.findings.add('wrongRead', subjectOf(trial, id), `Version ${version} of order ${id} ${says}.`, exchange)
    if (etag !== undefined && other === undefined) known.set(version, etag)
  }
  return looked
}
