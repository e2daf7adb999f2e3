import { extname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Target } from '../../verify/target.ts'
import type { Mission } from './saboteurs/saboteur.ts'
import type { SaboteurName } from './saboteurs/saboteurs.ts'

/** In the package it is JavaScript, like this module. */
const preload = pathToFileURL(join(import.meta.dirname, `saboteurs/preload${extname(import.meta.filename)}`)).href

/** The target with a saboteur in each of its processes, for any target that runs on Node. `sabotage.jsonl` records what each did. */
export function sabotaged (target: Target, saboteur: SaboteurName, customer: string | null): Target {
  return {
    ...target,
    start (run, instance) {
      const { env, ...command } = target.start(run, instance)
      const missions = [...JSON.parse(env.SABOTEURS ?? '[]') as Mission[], { name: saboteur, customer }]
      return {
        ...command,
        env: { ...env, NODE_OPTIONS: `--import=${preload}`, SABOTEURS: JSON.stringify(missions), SABOTEURS_LOG: join(run.directory, 'sabotage.jsonl') }
      }
    }
  }
}
