import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import type { Line } from './history.ts'
import { UserError } from '../user-error.ts'
import { linesOf } from './lines.ts'

/** Writes a history. */
export class HistoryFile {
  readonly #fd: number

  /** Throws if the file exists: a history belongs to one run. */
  constructor (path: string) {
    this.#fd = openSync(path, 'ax')
  }

  /** Returns when the kernel has the line: the line outlives this process, and comes before everything that happens next. */
  append (line: Line): void {
    writeFileSync(this.#fd, JSON.stringify(line) + '\n')
  }

  close (): void {
    closeSync(this.#fd)
  }
}

/**
 * The lines of a history, one after the other. Text after the last end of a line does not count: its writer was killed while
 * writing. A torn invocation was never sent, and a torn completion leaves its operation `info`. Throws if any other line is not
 * JSON.
 */
export function * historyOf (path: string): Generator<Line> {
  let number = 0
  for (const bytes of linesOf(path)) {
    number++
    try {
      yield JSON.parse(bytes.toString())
    } catch (error) {
      throw new UserError(`${path}: line ${number} is not JSON. Nothing of this history was judged; the file was changed after it was written.`, { cause: error })
    }
  }
}

/** A whole short history. `torn`: the text after the last end of a line. */
export function readHistory (path: string): { lines: Line[], torn: string | null } {
  const bytes = readFileSync(path)
  const torn = bytes.subarray(bytes.lastIndexOf('\n') + 1)
  return { lines: [...historyOf(path)], torn: torn.length > 0 ? torn.toString() : null }
}
