import type { Cell } from '../service.ts'

export interface Case {
  name: string
  /** What must hold. */
  says: string
  /** @throws Fault where it does not */
  run: (cell: Cell) => Promise<void>
}
