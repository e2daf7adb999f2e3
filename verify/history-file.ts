import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import type { Line } from './history.ts'

/** Writes a history. */
export class HistoryFile {
  readonly #fd: number

  /** Throws where the file exists: a history is that of one run. */
  constructor (path: string) {
    this.#fd = openSync(path, 'ax')
  }

  /** Returns when the kernel has the line: it outlives this process, and what happens next happens after it. */
  append (line: Line): void {
    writeFileSync(this.#fd, JSON.stringify(line) + '\n')
  }

  close (): void {
    closeSync(this.#fd)
  }
}

/**
 * Reads a history. `torn` is what stands after the last end of a line: the process that wrote it was killed in
 * mid-write. It does not count as a line: a torn invocation never left, and a torn completion leaves its operation
 * `info`. Throws where any other line is not JSON.
 */
export function readHistory (path: string): { lines: Line[], torn: string | null } {
  const bytes = readFileSync(path)
  const lines: Line[] = []
  let start = 0
  for (let end = bytes.indexOf('\n'); end !== -1; end = bytes.indexOf('\n', start)) {
    try {
      lines.push(JSON.parse(bytes.toString('utf8', start, end)))
    } catch (error) {
      throw new Error(`${path}: line ${lines.length + 1} is not JSON. Nothing of this history was judged; the file was changed after it was written.`, { cause: error })
    }
    start = end + 1
  }
  return { lines, torn: start < bytes.length ? bytes.toString('utf8', start) : null }
}
