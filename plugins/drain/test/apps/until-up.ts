import { setTimeout as delay } from 'node:timers/promises'

/** Longer than the kit waits for a start, so that the kit reports a missing one. */
const giveUpMs = 60_000

/** Resolves when the service answers. */
export async function untilUp (origin: string): Promise<void> {
  const end = performance.now() + giveUpMs
  while (performance.now() < end) {
    try {
      await (await fetch(origin)).arrayBuffer()
      return
    } catch {
      await delay(50)
    }
  }
}
