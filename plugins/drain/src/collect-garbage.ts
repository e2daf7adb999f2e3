import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * Collects all that nothing holds. It stops everything for its time, and so is only for the end of a stop. Node has no
 * other way than V8's own, which is behind a flag; where that cannot be had, nothing is collected.
 */
export function collectGarbage (): void {
  try {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    setFlagsFromString('--no-expose-gc')
    collect()
  } catch {
    // The deadline ends what is left.
  }
}
