import type { Control } from './control.ts'
import { live } from './live.ts'
import { recorded } from './recorded.ts'

const controls: readonly Control[] = [...live, ...recorded]

export const controlNames: readonly string[] = controls.map(({ name }) => name)

/** @param wanted one of `controlNames`, or all */
export function controlsNamed (wanted: string): Control[] {
  return controls.filter(({ name }) => wanted === 'all' || wanted === name)
}
