import { appendFileSync, closeSync, openSync, readSync } from 'node:fs'

const chunkBytes = 2 ** 20
const newline = 10

/** The lines of a file of any length, without their ends. Text after the last end of a line is no line. */
export function * linesOf (path: string): Generator<Buffer> {
  const file = openSync(path, 'r')
  try {
    let rest = Buffer.alloc(0)
    for (;;) {
      const chunk = Buffer.allocUnsafe(chunkBytes)
      const length = readSync(file, chunk)
      if (length === 0) return
      const bytes = rest.length === 0 ? chunk.subarray(0, length) : Buffer.concat([rest, chunk.subarray(0, length)])
      let start = 0
      for (let end = bytes.indexOf(newline); end !== -1; end = bytes.indexOf(newline, start)) {
        yield bytes.subarray(start, end)
        start = end + 1
      }
      rest = bytes.subarray(start)
    }
  } finally {
    closeSync(file)
  }
}

/** Writes lines, many at a time. */
export class LineFile {
  readonly path: string
  readonly #buffer: Buffer
  #length = 0

  constructor (path: string, bufferBytes = 2 ** 18) {
    this.path = path
    this.#buffer = Buffer.allocUnsafe(bufferBytes)
  }

  append (...parts: ReadonlyArray<Buffer | string>): void {
    for (const part of parts) this.#add(typeof part === 'string' ? Buffer.from(part) : part)
    this.#add(Buffer.of(newline))
  }

  /** Must also be called at the end. */
  flush (): void {
    appendFileSync(this.path, this.#buffer.subarray(0, this.#length))
    this.#length = 0
  }

  #add (bytes: Buffer): void {
    if (bytes.length > this.#buffer.length - this.#length) this.flush()
    if (bytes.length > this.#buffer.length) appendFileSync(this.path, bytes)
    else this.#length += bytes.copy(this.#buffer, this.#length)
  }
}
