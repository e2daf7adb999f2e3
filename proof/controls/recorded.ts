import { join } from 'node:path'
import { UserError } from '../../user-error.ts'
import { judge } from '../../verify/judge/judge.ts'
import type { Control, Trial } from './control.ts'
import { damages, type Damage, type RecordName } from './recorded/damages.ts'
import { moneyDamages } from './recorded/money-damages.ts'
import type { Damaged } from './recorded/damaged.ts'
import { readSaved } from '../../verify/saved.ts'

/**
 * The evidence of runs in which nothing was found broken. To record another, run one of these until it has a stop that met
 * requests, and all that recorded/damages.ts or recorded/money-damages.ts looks for (`--control` names what it lacks). Keep
 * evidence.json and the files that it names.
 *
 * `npm run verify -- --scenario term --duration 4 --rate 45 --clients 16 --out …`
 * `npm run verify -- --scenario payments --duration 7 --rate 40 --clients 16 --out …`
 */
const folders: Readonly<Record<RecordName, string>> = { term: join(import.meta.dirname, 'recorded'), payments: join(import.meta.dirname, 'recorded-payments') }

/** A true record with one damage: these prove the judge, and need no service. */
export const recordedDamages: readonly Damage[] = [...damages, ...moneyDamages]
export const recorded: readonly Control[] = recordedDamages

export function recordedTrials (controls: readonly Control[]): Trial[] {
  return recordedDamages.filter(damage => controls.includes(damage)).map(recordedTrial)
}

export function recordedTrial (damage: Damage): Trial {
  return {
    name: damage.name,
    controls: [damage],
    async verdict () {
      const { verdict, counterexamples: [first], missing } = judge(readRecord(damage.record))
      if (verdict !== 'held') throw new UserError(`The record in ${folders[damage.record ?? 'term']} is not one of promises held, so that a damage to it would prove nothing: ${first?.says ?? missing[0]} Record it again.`)
      const evidence = readRecord(damage.record)
      damage.damage(evidence)
      return judge(evidence)
    }
  }
}

export function readRecord (record: RecordName = 'term'): Damaged {
  const { needed, ...rest } = readSaved(folders[record]) as Damaged
  // It is short, so that it may be kept: too short to say that a service keeps its promises, and long enough to say that one does not.
  return { ...rest, needed: { ...needed, occasions: false } }
}
