import { join } from 'node:path'
import { run } from '../../verify/run.ts'
import type { Control, Trial } from './control.ts'
import { flawsOfTheDatabase } from './flaws/database.ts'
import { flawsOfPayments } from './flaws/payments.ts'
import type { Flaw, Setting } from './flaws/flaw.ts'
import { sabotage } from './flaws/sabotage.ts'
import { flawsOfTheService } from './flaws/service.ts'
import { customerOf, shares } from './flaws/shares.ts'

const flaws: readonly Flaw[] = [...flawsOfTheService, ...flawsOfTheDatabase, ...flawsOfPayments, ...sabotage]
const targetFile = join(import.meta.dirname, '../order-service.ts')
/** Arrivals per second and connections; ms for owed events at the end; and many counterexamples, because each must be assigned to a customer. */
const usual = { rate: 200, clients: 64, coda: 1_000, patienceMs: 2_000, tellMax: 1_000 }

/** The service of this repository, run with a flaw. The load does not know of it. */
export const live: readonly Control[] = flaws

/** The runs of these controls. */
export function liveTrials (controls: readonly Control[]): Trial[] {
  const wanted = flaws.filter(flaw => controls.includes(flaw))
  const own = wanted.flatMap(flaw => 'setting' in flaw ? [trial(flaw.name, flaw.setting, [flaw])] : [])
  const shared = Object.entries(shares).flatMap(([name, setting]) => {
    const sharing = wanted.filter(flaw => 'share' in flaw && flaw.share === name)
    return sharing.length === 0 ? [] : [trial(sharing.length === 1 ? sharing[0]?.name ?? name : name, setting, sharing)]
  })
  // The longest run first: the others end meanwhile.
  return [...shared, ...own.toSorted((a, b) => b.duration - a.duration)].map(({ duration: _, ...trial }) => trial)
}

function trial (name: string, setting: Setting, broken: readonly Flaw[]): Trial & { readonly duration: number } {
  const alone = broken.length === 1
  return {
    name,
    controls: broken,
    duration: setting.duration,
    ...!alone && { customerOf: (control, seed) => broken.flatMap(flaw => flaw === control ? customerOf(flaw, broken, seed) : [])[0] ?? null },
    verdict: async options => await run({
      ...options,
      ...usual,
      ...setting,
      targetFile,
      vary: target => broken.reduce((target, flaw) => flaw.break(target, alone ? null : customerOf(flaw, broken, options.seed)), target)
    })
  }
}
