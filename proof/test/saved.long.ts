import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Damage } from '../controls/recorded/damages.ts'
import { exchangesIn, type Damaged } from '../controls/recorded/damaged.ts'
import { readRecord, recordedDamages } from '../controls/recorded.ts'
import { judge } from '../../verify/judge/judge.ts'
import { judgeSaved, readSaved, save } from '../../verify/saved.ts'

const mixedUp = [
  { name: "another's order on a page", damage: showAnothers },
  { name: "another's order on a page, which is not stored", damage: (evidence: Damaged) => drop(evidence, showAnothers(evidence)) },
  { name: "another's event on a stream", damage: streamAnothers },
  { name: "another's order in an answer", damage: answerAnothers },
  { name: 'one id for the orders of two', damage: storeAnothers }
]

t.test('a run judged as a whole and one judged in as many parts as possible have the same verdict, whatever is broken', async t => {
  const changes: ReadonlyArray<Pick<Damage, 'name' | 'damage' | 'record'>> = [{ name: 'nothing', damage: () => {} }, ...recordedDamages, ...mixedUp]
  for (const [i, { name, damage, record }] of changes.entries()) {
    const evidence = readRecord(record)
    evidence.needed.occasions = true
    damage(evidence)
    const directory = join(t.testdir(), String(i))
    mkdirSync(directory)
    save(directory, evidence)
    let parts = 0
    // No customer shares a part without need.
    const inParts = await judgeSaved(directory, { shardBytes: 1, onTold: () => parts++ })
    t.ok(parts > 5, `${name}: in ${parts} parts`)
    const whole = judge(readSaved(directory))
    t.equal(whole.verdict, name === 'nothing' ? 'unknown' : 'broken', name)
    t.strictSame(inParts, whole, name)
  }
})

/** Shows a customer with a list an order of another customer. */
function anothers (evidence: Damaged, of: string) {
  return exchangesIn(evidence.history, 'order of somebody else', ({ asked: { operation }, answer }) => operation.kind === 'place' && operation.customer !== of && answer.order !== undefined)[0]
}

function showAnothers (evidence: Damaged): string {
  const [{ asked, answer }] = exchangesIn(evidence.history, 'page', ({ answer }) => (answer.shown?.length ?? 0) > 0)
  const id = anothers(evidence, asked.operation.customer).answer.order?.id ?? ''
  answer.shown?.push({ id, version: 1, status: 'placed', digest: 'another' })
  return id
}

function drop (evidence: Damaged, id: string): void {
  for (const read of [evidence.first, evidence.second]) if (read) read.orders = read.orders.filter(order => order.id !== id)
}

function streamAnothers (evidence: Damaged): void {
  for (const line of evidence.history) {
    if (line.type !== 'event') continue
    line.event.orderId = anothers(evidence, line.customer).answer.order?.id ?? ''
    return
  }
}

function answerAnothers (evidence: Damaged): void {
  const [{ asked, answer }] = exchangesIn(evidence.history, 'read', ({ asked, answer }) => asked.operation.kind === 'read' && answer.order !== undefined)
  const { order } = anothers(evidence, asked.operation.customer).answer
  if (order !== undefined) answer.order = order
}

function storeAnothers ({ first, second }: Damaged): void {
  for (const read of [first, second]) {
    const [one, ...others] = read?.orders ?? []
    const another = others.find(({ customer }) => customer !== one?.customer)
    if (one !== undefined && another !== undefined) one.id = another.id
  }
}
