import { isTransition, noVersion, type OnOrder, type Transition } from '../history.ts'
import type { StateName } from '../target.ts'
import { type Case, type Looked, ownerOf, stateOf, subjectOf } from './case.ts'
import type { Exchange } from './told.ts'

const after: Readonly<Record<Transition, StateName>> = { pay: 'paid', ship: 'shipped', deliver: 'delivered', cancel: 'cancelled' }
const staffs: readonly Transition[] = ['ship', 'deliver']

/** The service's name of the state that a transition leads to. */
export function stateAfter (trial: Case, transition: Transition): string {
  return stateOf(trial, after[transition])
}

/** A 2xx to a transition means that the order went into that state, by someone with the right to do it, at a version that If-Match names. */
export function wrongTransition (trial: Case): Looked {
  let looked = 0
  const etags = etagsOf(trial)
  for (const exchange of trial.told.exchanges) {
    const { invocation: { operation }, completion } = exchange
    if (!isTransition(operation) || completion?.type !== 'ok' || !completion.order) continue
    looked++
    const says = unlikeAsked(trial, operation, exchange) ?? unheeded(operation, exchange, etags)
    if (says !== undefined) trial.findings.add('wrongTransition', subjectOf(trial, operation.id), `${operation.customer} was acknowledged to ${operation.kind} order ${operation.id}, ${says}.`, exchange)
  }
  return looked === 0 ? { looked: null, because: 'No transition was acknowledged.' } : { looked }
}

/** The check of the content covers orders of other customers. */
function unlikeAsked (trial: Case, { kind, id, customer, staff }: OnOrder & { readonly kind: Transition }, { completion }: Exchange): string | undefined {
  const { status = '', version = 0 } = completion?.order ?? {}
  const wanted = stateAfter(trial, kind)
  if (staffs.includes(kind) && staff !== true && trial.features.has('staff')) return `though only staff may: ${customer} has no such right`
  if (status === wanted) return undefined
  // The answer may show a later state, if the order went through that state.
  const events = trial.reads.at(-1)?.events?.get(id)
  const wentThrough = events === undefined
    ? leadsTo(trial.evidence.transitions, wanted, status)
    : events.some(event => event.type === wanted && event.version <= version)
  return wentThrough ? undefined : `and it is ${status} at version ${version}`
}

function leadsTo (transitions: Case['evidence']['transitions'], from: string, to: string): boolean {
  if (transitions === undefined) return true
  const reached = new Set([from])
  for (const status of reached) for (const next of transitions[status] ?? []) reached.add(next)
  return reached.has(to)
}

/** Versions by order. */
type Etags = ReadonlyMap<string, ReadonlyMap<number, string>>

function etagsOf ({ told }: Case): Etags {
  const etags = new Map<string, Map<number, string>>()
  for (const { completion } of told.exchanges) {
    if (completion?.type !== 'ok' || !completion.order || completion.etag === undefined) continue
    const { order: { id, version }, etag } = completion
    const of = etags.get(id) ?? new Map<number, string>()
    etags.set(id, of.set(version, etag))
  }
  return etags
}

/** The previous version, or the same one if there was nothing left to do. */
function unheeded ({ id, ifMatch }: OnOrder, { completion }: Exchange, etags: Etags): string | undefined {
  if (ifMatch === undefined || ifMatch === '*') return undefined
  const { version = 0 } = completion?.order ?? {}
  const [before, now] = [etags.get(id)?.get(version - 1), etags.get(id)?.get(version)]
  // An ETag that was never seen may be that of the previous version, unless that one is known.
  if (ifMatch === before ||
    ifMatch === now ||
    (before === undefined && [...etags.get(id)?.values() ?? []].every(seen => seen !== ifMatch) && ifMatch !== noVersion)) return undefined
  return `over If-Match ${ifMatch}, which names neither version ${version} nor the one before`
}

/** Finds, for a stored order, each transition that nobody asked for, and each that was refused to all who did. */
export function unaskedSteps (trial: Case, tell: (invariant: 'phantom' | 'resurrected', id: string, says: string) => void): number {
  const asked = new Map<string, Exchange[]>()
  for (const exchange of trial.told.exchanges) {
    const { operation } = exchange.invocation
    if (!isTransition(operation)) continue
    const name = `${operation.id} ${stateAfter(trial, operation.kind)}`
    asked.set(name, [...asked.get(name) ?? [], exchange])
  }
  const steps = new Set(Object.values(after).map(name => stateOf(trial, name)))
  let looked = 0
  for (const { snapshot: { orders }, events } of trial.reads) {
    for (const { id, status } of orders) {
      for (const type of events === undefined ? [status] : (events.get(id) ?? []).map(({ type }) => type)) {
        if (!steps.has(type)) continue
        looked++
        const exchanges = asked.get(`${id} ${type}`) ?? []
        if (exchanges.length === 0) tell('phantom', id, `Order ${id} is ${type}, and nobody asked for that.`)
        else if (exchanges.every(({ completion }) => completion?.type === 'fail')) tell('resurrected', id, `Order ${id} is ${type}, and whoever asked for that was told that it was not done.`)
      }
    }
  }
  return looked
}

/** Whether the sender has the right to it. */
export function isOwn (trial: Case, { id, customer, staff }: OnOrder): boolean {
  return staff === true || ownerOf(trial, id)?.customer === customer
}
