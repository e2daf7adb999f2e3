import type { Cell } from '../service.ts'

export interface Case {
  name: string
  /** What must hold. */
  says: string
  /** @throws Fault if it does not hold */
  run: (cell: Cell) => Promise<void>
}
