import { writeSync } from 'node:fs'
import type { Worker } from 'node:worker_threads'
import type { FastifyBaseLogger } from 'fastify'
import { symbolProperty } from './symbol-property.ts'
import { clearTimeout, now, setTimeout, sleep } from './timers.ts'

/** A logger that cannot write its lines must not hold the exit for longer. */
const longestMs = 100
/** A worker has its own queue, and may write slowly. It gets this long even after the deadline. */
const longestWorkerMs = 2_000
/** Before the deadline, a worker gets as long as pino itself would wait. */
const longestQueueMs = 10_000
/** How long one look at a worker takes. */
const lookMs = 50
/** A worker is idle if it worked for less than this during a look. */
const restMs = 0.01
/** A worker must be idle at so many looks in a row: on a busy machine it may get no processor time during one. */
const restsNeeded = 3
/** In an `exit` listener, the thread that writes earlier lines gets this long to finish. */
const linesUnderWayMs = 50

/** pino's own destination for files and stdout. */
interface SonicBoom {
  readonly minLength: number
  flushSync: () => void
  once: (event: 'drain', listener: () => void) => unknown
}

/** pino's stream when its lines go to a transport in a worker. */
interface ThreadStream {
  readonly worker: Worker
  /** Calls back when the worker has read everything that was written. */
  flush: (done: () => void) => void
  /** Blocks until the worker has begun to end, for ten seconds at most. */
  end: () => void
  once: (event: 'close', listener: () => void) => unknown
  on: (event: 'error', listener: () => void) => unknown
}

/**
 * Writes the last line of the log, and waits until it is written. By default pino writes asynchronously and flushes
 * synchronously at the exit, so that the last line could overtake earlier ones. `flush()` does not help: without a
 * minimum length to buffer it calls back at once. The destination's `drain` event tells.
 */
export async function writeLastLine (log: FastifyBaseLogger, write: () => void): Promise<void> {
  const destination = destinationOf(log)
  // Other destinations, such as a plain Writable, emit `drain` only after back-pressure.
  if (!isSonicBoom(destination)) return write()
  await happens(done => {
    destination.once('drain', done)
    write()
  }, longestMs)
}

/**
 * Ends the transports before the process ends: a worker may have lines that it has not written. It may work until it is
 * idle, and is then ended, which makes it write what it kept. Nothing can be logged afterwards. A worker that has stopped
 * reading is ended by force: pino would wait for it in `process.exit()`.
 *
 * @param deadline performance.now() until which a slow worker may work
 */
export async function endTransports (logs: Iterable<FastifyBaseLogger>, deadline: number): Promise<void> {
  const longest = Math.min(Math.max(deadline - now(), longestWorkerMs), longestQueueMs)
  const streams = new Set([...logs].map(destinationOf).filter(isThreadStream))
  await Promise.all([...streams].map(async stream => {
    const until = now() + longest
    const reads = await happens(done => stream.flush(done), longest)
    // `end()` does not wait until the worker has written the very last line.
    for (let rests = 0; rests < restsNeeded && now() < until;) rests = await works(stream.worker) ? 0 : rests + 1
    stream.on('error', () => {})
    await happens(done => {
      stream.once('close', done)
      if (reads) stream.end()
      else stream.worker.terminate()
    }, longestWorkerMs)
  }))
}

/** Whether the worker's event loop does anything during one look. */
async function works ({ performance }: Worker): Promise<boolean> {
  const before = performance.eventLoopUtilization()
  await sleep(lookMs)
  return performance.eventLoopUtilization().active - before.active > restMs
}

/** For an `exit` listener, where nothing asynchronous happens any more. */
export function writeAtExit (log: FastifyBaseLogger, write: () => void, otherwise: string): void {
  const destination = destinationOf(log)
  if (isSonicBoom(destination)) {
    // Otherwise lines that are written synchronously may overtake the earlier ones.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, linesUnderWayMs)
    write()
    return destination.flushSync()
  }
  // A worker would have no time left to write it.
  if (isThreadStream(destination) || log.level === undefined || log.level === 'silent') writeSync(2, `${otherwise}\n`)
  else write()
}

/** @returns whether it happened within `ms` */
function happens (start: (done: () => void) => void, longest: number): Promise<boolean> {
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve(false), longest)
    start(() => {
      clearTimeout(timer)
      resolve(true)
    })
  })
}

/** pino keeps its stream behind a symbol. It is found by the symbol's description, because the package depends on no logger. */
function destinationOf (log: FastifyBaseLogger): unknown {
  return symbolProperty(log, 'pino.stream')
}

function isSonicBoom (stream: unknown): stream is SonicBoom {
  return typeof stream === 'object' && stream !== null && 'flushSync' in stream && 'once' in stream && 'minLength' in stream
}

function isThreadStream (stream: unknown): stream is ThreadStream {
  return typeof stream === 'object' && stream !== null && 'worker' in stream && 'flush' in stream && 'end' in stream
}
