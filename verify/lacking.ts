import type { SavedRead } from './saved.ts'
import type { Operation, Target } from './target.ts'

const operations: ReadonlyArray<readonly [name: string, operation: Operation]> = [
  ['read: an order cannot be shown', { kind: 'read', customer: '', id: '' }],
  ['list: orders cannot be listed', { kind: 'list', customer: '' }],
  ['pay: an order cannot be paid', { kind: 'pay', customer: '', id: '' }],
  ['cancel: an order cannot be cancelled', { kind: 'cancel', customer: '', id: '' }],
  ['ship: an order cannot be shipped', { kind: 'ship', customer: '', id: '' }],
  ['deliver: an order cannot be delivered', { kind: 'deliver', customer: '', id: '' }],
  ['restock: stock cannot be added to', { kind: 'restock', customer: '', key: '', sku: '', delta: 1 }],
  ['prices: they cannot be changed', { kind: 'price', customer: '', sku: '', name: '', currency: '', unitPrice: 1 }]
]

/** The features that a service lacks or does not show, by name: they were neither requested nor checked. */
export function lackedBy (target: Target, stored: Pick<SavedRead, 'products' | 'events' | 'money'>): string[] {
  const lacks: ReadonlyArray<readonly [boolean, string]> = [
    ...operations.map(([name, operation]) => [target.request(operation) !== undefined, name] as const),
    [target.stream !== undefined, 'stream: there are no event streams'],
    [stored.products !== undefined, 'stock: what is left of a product is not told'],
    [stored.events, 'outbox: events are not told'],
    [stored.money === true, 'money: what was charged and given back is not told'],
    [target.consumer !== undefined, 'deliveries: events are handed to no consumer of the harness'],
    [target.transitions !== undefined, 'transitions: the steps between states are not told'],
    [target.postgres !== undefined, 'database: its faults are not tried, as it is not one of the harness']
  ]
  return [...lacks.flatMap(([has, what]) => has ? [] : [what]), ...target.lacks ?? []]
}
