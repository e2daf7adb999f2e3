import { join } from 'node:path'
import { judge } from '../judge/judge.ts'
import type { Control, Trial } from './control.ts'
import { damages, type Damage } from './recorded/damages.ts'
import type { Damaged } from './recorded/damaged.ts'
import { readSaved } from '../saved.ts'

/**
 * What a run left behind in which nothing was found broken. To record another: evidence.json and the files that it names, of those that this makes, once it has a
 * stop that met requests, and all that recorded/damages.ts looks for; what it lacks, `--control` names.
 * `npm run verify -- --scenario term --duration 4 --rate 45 --clients 16 --out …`
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
      const { verdict, counterexamples: [first], missing } = judge(readRecord())
      if (verdict !== 'held') throw new Error(`The record in ${record} is not one of promises held, so that a damage to it would prove nothing: ${first?.says ?? missing[0]} Record it again.`)
      const evidence = readRecord()
      damage.damage(evidence)
      return judge(evidence)
    }
  }
}

export function readRecord (): Damaged {
  const { needed, ...rest } = readSaved(record) as Damaged
  // It is short, so that it may be kept: too short to say that a service keeps its promises, and long enough to say that one does not.
  return { ...rest, needed: { ...needed, occasions: false } }
}
