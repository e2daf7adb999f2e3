import type { FastifyInstance } from 'fastify'

export interface BackgroundWorker {
  /** Works until stop(). Never rejects. */
  run (): Promise<void>
  /** Begins no further round. */
  stop (): void
}

export interface BackgroundWorkerOptions {
  /** The phase of a stop in which it is told to end. Default: closing. */
  stopsAt?: 'draining' | 'closing'
  /** Closes what it used, once it has ended. */
  onEnd?: () => Promise<void>
}

/** Runs a worker while the app is ready. A stop waits for its current round. */
export function runInBackground (app: FastifyInstance, name: string, worker: BackgroundWorker, { stopsAt = 'closing', onEnd = async () => {} }: BackgroundWorkerOptions = {}): void {
  let running = Promise.resolve()
  app.addHook('onReady', async () => {
    running = app.drain.track(name, worker.run())
  })
  app.drain.on(stopsAt, () => worker.stop(), { name: `stop the ${name}` })
  app.addHook('onClose', async () => {
    worker.stop()
    await running
    await onEnd()
  })
}
