import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readHistory } from '../history-file.ts'
import type { Evidence } from '../judge/evidence.ts'
import { judge } from '../judge/judge.ts'
import type { OrderStored, Snapshot } from '../target.ts'
import type { Control } from './control.ts'

/**
 * What a run left behind in which the service held every promise. To record another: three of the files that this makes,
 * once it says "held" (so short a load needs luck for a fault to hit a request in flight).
 * `npm run verify -- --scenario term --duration 2 --rate 50 --clients 16 --out …`
 */
const record = join(import.meta.dirname, 'recorded')

/** Of one order, in every read: the rows that stand in the place of its row. */
type Damage = (row: OrderStored) => OrderStored[]

/** A true record, and what is stored of one acknowledged order damaged: these prove the judge, and need no service. */
export const recorded: readonly Control[] = [
  recordedControl('recorded-dropped', 'One row is taken out of a recorded run', 'lost', () => []),
  recordedControl('recorded-doubled', 'One row stands twice in a recorded run', 'duplicated', row => [row, row]),
  recordedControl('recorded-total', 'One total is another in a recorded run', 'wrongContent', row => [{ ...row, total: row.total + 1 }])
]

export function recordedControl (name: string, broken: string, expected: Control['expected'], damage: Damage): Control {
  return {
    name,
    broken,
    expected,
    async verdict () {
      const evidence = readEvidence()
      const { verdict, counterexamples: [first], missing } = judge(evidence)
      if (verdict !== 'held') throw new Error(`The record in ${record} is not one of promises held, so that a damage to it would prove nothing: ${first?.says ?? missing[0]} Record it again.`)
      const id = firstAcknowledged(evidence)
      return judge({ ...evidence, first: damaged(evidence.first, id, damage), second: damaged(evidence.second, id, damage) })
    }
  }
}

function readEvidence (): Evidence {
  const rest = JSON.parse(readFileSync(join(record, 'evidence.json'), 'utf8')) as Omit<Evidence, 'history' | 'settle'>
  return { ...rest, history: readHistory(join(record, 'history.jsonl')).lines, settle: readHistory(join(record, 'settle.jsonl')).lines }
}

function firstAcknowledged ({ history }: Evidence): string | undefined {
  return history.flatMap(line => line.type === 'ok' ? line.order?.id ?? [] : [])[0]
}

function damaged (read: Snapshot | undefined, id: string | undefined, damage: Damage): Snapshot | undefined {
  return read && { ...read, orders: read.orders.flatMap(row => row.id === id ? damage(row) : [row]) }
}
