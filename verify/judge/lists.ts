import { type Case, type Looked, subjectOf } from './case.ts'
import { type Exchange, idsOn } from './told.ts'

/** The pages of one walk through all orders of a customer. */
export interface Walk {
  readonly customer: string
  readonly pages: Exchange[]
}

/**
 * A walk through all pages shows every order that was acknowledged before its first request, and shows it once. A walk with a
 * failed page, or one that did not reach the end, proves nothing about orders that it did not show.
 */
export function notListed (trial: Case): Looked {
  const { told, findings } = trial
  let looked = 0
  const walks = wholeWalks(trial)
  for (const { customer, pages } of walks) {
    const [first] = pages
    if (first === undefined) continue
    const seen = new Set<string>()
    for (const page of pages) {
      for (const id of new Set(page.completion && idsOn(page.completion))) {
        if (seen.has(id)) findings.add('notListed', subjectOf(trial, id), `Order ${id} is on two pages of one list of ${customer}.`, page)
        seen.add(id)
      }
    }
    for (const { id, at } of told.ordersOf.get(customer) ?? []) {
      if (at >= first.begun) break
      looked++
      if (!seen.has(id)) findings.add('notListed', subjectOf(trial, id), `Order ${id} was acknowledged to ${customer} before the first of ${pages.length} pages was asked for, and is on none.`, first)
    }
  }
  return walks.length === 0 ? { looked: null, because: 'No list was read from its first page to its last.' } : { looked }
}

export function wholeWalks ({ told: { exchanges } }: Case): Walk[] {
  const walks = new Map<number, Walk>()
  for (const exchange of exchanges) {
    const { operation } = exchange.invocation
    if (operation.kind !== 'list' || operation.walk === undefined) continue
    const walk = walks.get(operation.walk)
    if (walk !== undefined) walk.pages.push(exchange)
    else if (operation.cursor === undefined) walks.set(operation.walk, { customer: operation.customer, pages: [exchange] })
  }
  return [...walks.values()].filter(({ pages }) => pages.every(({ completion }) => completion?.type === 'ok' && idsOn(completion)) && pages.at(-1)?.completion?.next === undefined)
}
