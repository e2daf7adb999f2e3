import { once } from 'node:events'
import type { EventEmitter } from 'node:events'
import type { FastifyBaseLogger } from 'fastify'

/** A logger that does not get rid of its lines must not hold the exit. */
const LONGEST_MS = 100

/**
 * Writes the last line of the log, and waits until it is out. By default pino writes asynchronously and flushes at
 * the exit synchronously, so that the last line could overtake those before it. `flush()` does not tell either:
 * without a minimum length to buffer it calls back at once. The destination does, by its `drain` event.
 */
export async function writeLastLine (log: FastifyBaseLogger, write: () => void): Promise<void> {
  const destination = destinationOf(log)
  if (destination === undefined) return write()
  const limit = new AbortController()
  const timer = setTimeout(() => limit.abort(), LONGEST_MS)
  const drained = once(destination, 'drain', { signal: limit.signal }).catch(() => {})
  write()
  await drained
  clearTimeout(timer)
}

/** pino keeps it behind a symbol; found by its description, as the package depends on no logger. */
function destinationOf (log: FastifyBaseLogger): EventEmitter | undefined {
  let holder: object | null = log
  while (holder !== null) {
    const key = Object.getOwnPropertySymbols(holder).find(({ description }) => description === 'pino.stream')
    const stream: unknown = key === undefined ? undefined : (log as unknown as Record<symbol, unknown>)[key]
    // Others, such as a plain Writable, emit `drain` only after back-pressure.
    if (stream !== undefined) return isSonicBoom(stream) ? stream : undefined
    holder = Object.getPrototypeOf(holder) as object | null
  }
  return undefined
}

function isSonicBoom (stream: unknown): stream is EventEmitter {
  return typeof stream === 'object' && stream !== null && 'flushSync' in stream && 'once' in stream && 'minLength' in stream
}
