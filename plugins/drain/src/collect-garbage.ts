import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * Collects all garbage. It blocks the process meanwhile, and so is only for the end of a stop. V8 hides the function
 * behind a flag, and Node has no other way; if the flag cannot be set, nothing is collected.
 */
export function collectGarbage (): void {
  try {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    setFlagsFromString('--no-expose-gc')
    collect()
  } catch {
    // The deadline ends the requests that are left.
  }
}
