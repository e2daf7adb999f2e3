import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readHistory } from '../history-file.ts'
import { judge } from '../judge/judge.ts'
import type { Control, Trial } from './control.ts'
import { damages, type Damage } from './recorded/damages.ts'
import type { Damaged } from './recorded/damaged.ts'

/**
 * What a run left behind in which the service held every promise. To record another: three of the files that this makes,
 * once it says "held" (so short a load needs luck for a fault to hit a request in flight).
 * `npm run verify -- --scenario term --duration 2 --rate 50 --clients 16 --out …`
 */
const record = join(import.meta.dirname, 'recorded')

/** A true record with one damage: these prove the judge, and need no service. */
export const recorded: readonly Control[] = damages

export function recordedTrials (controls: readonly Control[]): Trial[] {
  return damages.filter(damage => controls.includes(damage)).map(recordedTrial)
}

export function recordedTrial (damage: Damage): Trial {
  return {
    name: damage.name,
    controls: [damage],
    async verdict () {
      const { verdict, counterexamples: [first], missing } = judge(readEvidence())
      if (verdict !== 'held') throw new Error(`The record in ${record} is not one of promises held, so that a damage to it would prove nothing: ${first?.says ?? missing[0]} Record it again.`)
      const evidence = readEvidence()
      damage.damage(evidence)
      return judge(evidence)
    }
  }
}

function readEvidence (): Damaged {
  const lines = (name: string): Damaged['history'] => readHistory(join(record, name)).lines as Damaged['history']
  const rest = JSON.parse(readFileSync(join(record, 'evidence.json'), 'utf8')) as Omit<Damaged, 'history' | 'settle'>
  return { ...rest, history: lines('history.jsonl'), settle: lines('settle.jsonl') }
}
