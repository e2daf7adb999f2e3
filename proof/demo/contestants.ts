import orderService from '../order-service.ts'
import type { Target } from '../../verify/target.ts'
import { naiveTarget } from './naive-target.ts'

export interface Contestant {
  readonly target: Target
  /** What it does, in a few words. */
  readonly manner: string
}

export const contestants: readonly Contestant[] = [
  { target: naiveTarget('write-behind'), manner: 'answers, then writes' },
  { target: naiveTarget('commit-first'), manner: 'commits, then answers' },
  { target: ours(), manner: 'commits, then answers, and drains' }
]

/** The service of this repository. */
function ours (): Target {
  return {
    ...orderService,
    name: 'last-orders',
    start (run, instance) {
      const { env, ...rest } = orderService.start(run, instance)
      // A second in which its answers tell clients that their connections end. Like the others, it finds its tables made.
      return { ...rest, env: { ...env, DRAIN_MIN_MS: '1000', DRAIN_MAX_MS: '1000', MIGRATE_ON_START: 'false' } }
    }
  }
}
