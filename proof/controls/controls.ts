import type { Control, Trial } from './control.ts'
import { live, liveTrials } from './live.ts'
import { recorded, recordedTrials } from './recorded.ts'

export const controls: readonly Control[] = [...live, ...recorded]

export const controlNames: readonly string[] = controls.map(({ name }) => name)

/** @param wanted one of `controlNames`, or all */
export function trialsOf (wanted: string): Trial[] {
  const chosen = controls.filter(({ name, byName }) => wanted === 'all' ? byName !== true : wanted === name)
  return [...liveTrials(chosen), ...recordedTrials(chosen)]
}
