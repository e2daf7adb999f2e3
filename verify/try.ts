import { mkdirSync } from 'node:fs'
import { UserError } from '../user-error.ts'
import { wholeSnapshot } from './at-rest.ts'
import { usualBalancer } from './balancer.ts'
import { Connection } from './load/connection.ts'
import { classify } from './load/classify.ts'
import { onlyCustomer, plenty } from './load/plan.ts'
import { loadTarget } from './load-target.ts'
import type { Progress } from './progress.ts'
import { withSettings, type RunOptions } from './run.ts'
import type { Completion, Operation, OrderAsked, Product, Target } from './target.ts'
import { surround } from './world.ts'

type Options = Pick<RunOptions, 'targetFile' | 'env' | 'directory'> & { readonly progress: Pick<Progress, 'end'> }

interface Step {
  readonly name: string
  readonly operation: Operation
  /** What is wrong with its outcome, if anything. */
  readonly wrong: (completion: Understood) => string | undefined
}

type Understood = Omit<Completion, 'op' | 'at'>

const answerLimitMs = 20_000

/**
 * Sends one of each request to a service, and shows the request, the answer, and how the target file reads it. Run it before the
 * first proof. It judges nothing.
 *
 * @returns how many things must be corrected
 */
export async function tryOnce ({ targetFile, env = {}, directory, progress }: Options): Promise<number> {
  const ends: Array<() => Promise<void>> = []
  mkdirSync(directory, { recursive: true })
  const target = withSettings(await loadTarget(targetFile), env)
  let faults = 0
  const fault = (says: string): void => {
    faults++
    progress.end(`  ✗ ${says}`)
  }
  try {
    const surroundings = await surround({ target, needs: {}, balancer: usualBalancer, directory, zones: ['UTC'], onEnd: end => ends.push(end) })
    const { run, instances, urls } = surroundings
    await target.prepare?.(run)
    for (const instance of instances) await instance.start()
    await target.stock?.(run, urls[0])
    const connection = new Connection(urls[0], target.limits?.answer ?? answerLimitMs)
    ends.push(() => connection.close())
    if ((await wholeSnapshot(target, run)).orders.length > 0) fault('There are orders before the first was placed. Give each run an empty store.')

    const customer = target.orders?.customers === 1 ? onlyCustomer : 'customer-1'
    const placing: Operation = { kind: 'place', customer, key: 'try-1', order: orderOf(target, run.products) }
    const placed = await ask(target, connection, { name: 'place', operation: placing, wrong: isPlaced }, progress.end.bind(progress), fault)
    const { order } = placed ?? {}
    if (order !== undefined) {
      for (const step of stepsAfter(placing, order)) await ask(target, connection, step, progress.end.bind(progress), fault)
    }

    const { orders, products, events } = await wholeSnapshot(target, run)
    progress.end(`\nstored\n  ${JSON.stringify({ orders, ...products && { products: products.slice(0, 2) }, ...events && { events } })}`)
    if (orders.length !== 1) fault(`${orders.length} orders are stored, where one was placed, with one key.`)
    const [row] = orders
    if (row !== undefined && (row.key !== placing.key || row.customer !== customer)) fault(`The stored order has the key ${row.key} of ${row.customer}; it was placed with ${placing.key} by ${customer}.`)
    if (row !== undefined && order !== undefined && row.id !== order.id) fault(`The stored order has the id ${row.id}; it was answered with ${order.id}.`)
  } finally {
    for (const end of ends.reverse()) await end()
  }
  return faults
}

async function ask (
  target: Target,
  connection: Connection,
  { name, operation, wrong }: Step,
  say: (text: string) => void,
  fault: (says: string) => void
): Promise<Understood | undefined> {
  const request = target.request(operation)
  if (request === undefined) {
    say(`\n${name}: not described; it is skipped`)
    return undefined
  }
  const { method, path, headers, body = '' } = request
  say(`\n${name}\n  > ${method} ${path} ${JSON.stringify(headers)} ${body}`)
  const ending = await connection.send(request)
  if ('answer' in ending) say(`  < ${ending.answer.status} ${ending.answer.body.slice(0, 500)}`)
  const understood = classify(target.understand, operation, ending)
  const says = 'answer' in ending && understood.error === 'not-understood' ? whyNot(() => target.understand(operation, ending.answer)) : wrong(understood)
  say(`  = ${JSON.stringify(understood)}`)
  if (says !== undefined) fault(says)
  return understood
}

function whyNot (understand: () => unknown): string {
  try {
    understand()
    return ''
  } catch (error) {
    return `The answer was not understood: ${error instanceof Error ? error.message : String(error)}`
  }
}

function isPlaced ({ type, problem, error, order }: Understood): string | undefined {
  if (type !== 'ok') return `No order was placed (${problem ?? error ?? type}). Is the request as the service wants it?`
  if (order !== undefined && order.status !== 'placed') return `A new order is "${order.status}" here. If that is what the service calls it, name it: states: { placed: ${order.status} }.`
}

function stepsAfter (placing: Extract<Operation, { kind: 'place' }>, order: NonNullable<Understood['order']>): Step[] {
  const { customer } = placing
  const { id } = order
  const isOk = ({ type, problem, error }: Understood): string | undefined => type === 'ok' ? undefined : `It was not done (${problem ?? error ?? type}).`
  return [
    {
      name: 'the same again',
      operation: placing,
      wrong: completion => completion.type === 'ok' && completion.order?.id !== id ? `The same key made another order: ${completion.order?.id}.` : isOk(completion)
    },
    {
      name: 'the same key with another order',
      operation: { ...placing, order: { ...placing.order, items: placing.order.items.map(({ sku, quantity }) => ({ sku, quantity: quantity + 1 })) } },
      wrong: ({ type, problem }) => type === 'ok'
        ? 'It was taken for the same order. That is to be refused.'
        : problem === 'idempotency-key-reused' ? undefined : `It was refused as ${problem}. If that is how the service says it, name it: refusals: { idempotency-key-reused: … }.`
    },
    { name: 'read', operation: { kind: 'read', customer, id }, wrong: isOk },
    { name: 'list', operation: { kind: 'list', customer }, wrong: completion => completion.type === 'ok' && !idsOn(completion).includes(id) ? `The order ${id} is not on the page.` : isOk(completion) },
    { name: 'pay', operation: { kind: 'pay', customer, id }, wrong: completion => isOk(completion) ?? isIn('paid', completion) },
    { name: 'cancel', operation: { kind: 'cancel', customer, id }, wrong: completion => completion.problem === 'transition-not-allowed' ? undefined : isOk(completion) ?? isIn('cancelled', completion) }
  ]
}

function idsOn ({ ids = [], shown = [] }: Understood): string[] {
  return [...ids, ...shown.map(order => order.id)]
}

function isIn (state: string, { order }: Understood): string | undefined {
  return order === undefined || order.status === state ? undefined : `The order is "${order.status}" then. If that is what the service calls it, name it: states: { ${state}: ${order.status} }.`
}

function orderOf ({ orders = {}, features }: Target, products: readonly Product[]): OrderAsked {
  const plentiful = products.filter(({ stock }) => stock >= plenty)
  const [first] = plentiful
  if (first === undefined) throw new UserError(`No product has a stock of ${plenty} or more; nothing was asked.`)
  const those = plentiful.filter(({ currency }) => currency === first.currency).slice(0, Math.min(2, orders.items ?? 2))
  return { currency: first.currency, items: those.map(({ sku }, i) => ({ sku, quantity: i + 1 })), ...features?.includes('reference') !== false && { reference: 'a reference' } }
}
