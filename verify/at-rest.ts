import { setTimeout as delay } from 'node:timers/promises'
import { now } from './history.ts'
import type { Run, Snapshot, Target } from './target.ts'

const pollMs = 500
/** Longer than a killed instance may hold what it was about to deliver. */
const usualLimitMs = 90_000

/**
 * What is stored when nothing is under way any more: two reads are equal, and every event has been delivered. What is
 * still missing at the limit is taken as it stands; it is for the judge to say so.
 */
export async function readAtRest (target: Pick<Target, 'snapshot'>, run: Run, limitMs = usualLimitMs): Promise<Snapshot> {
  const until = now() + limitMs
  for (let before = ''; ; await delay(pollMs)) {
    const snapshot = await target.snapshot(run)
    const read = JSON.stringify(snapshot)
    const isDelivered = snapshot.events?.every(({ delivered }) => delivered) ?? true
    if ((read === before && isDelivered) || now() > until) return snapshot
    before = read
  }
}
