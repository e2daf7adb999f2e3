import fp from 'fastify-plugin'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { admits, exemptFromPressure, refuse, refuseRaw } from './admission.ts'
import { Clock } from './clock.ts'
import { CloseHooks } from './close-hooks.ts'
import { Connections } from './connections.ts'
import { join } from './coordinator.ts'
import type { Membership } from './coordinator.ts'
import { Deadline } from './deadline.ts'
import { FST_ERR_DRAIN_TWICE } from './errors.ts'
import { exchangeOf } from './exchange.ts'
import type { Exchange } from './exchange.ts'
import { followHandlers } from './handlers.ts'
import { Hooks } from './hooks.ts'
import type { DrainHook, DrainHookOptions } from './hooks.ts'
import { Listeners } from './listeners.ts'
import { readOptions } from './options.ts'
import type { DrainOptions } from './options.ts'
import type { DrainPhase, DrainReport, DrainState } from './report.ts'
import { followReplies } from './replies.ts'
import { Requests } from './requests.ts'
import type { OtherListener } from './signals.ts'
import { Stop } from './stop.ts'
import { symbolProperty } from './symbol-property.ts'
import { now } from './timers.ts'
import { TrackedWork } from './tracked-work.ts'
import { followUserCode } from './user-code.ts'
import { WebSockets } from './websockets.ts'

export type { DrainOptions, LameDuck } from './options.ts'
export type { DrainHook, DrainHookContext, DrainHookOptions } from './hooks.ts'
export type { ConnectionEnds, DrainExitCode, DrainPhase, DrainReport, DrainState, HookReport, PendingRequest, PendingWork, Tally } from './report.ts'
export { FST_ERR_DRAIN_BUDGET, FST_ERR_DRAIN_HOOK, FST_ERR_DRAIN_OPTION, FST_ERR_DRAIN_TRACK, FST_ERR_DRAIN_TWICE, FST_ERR_DRAIN_VERSIONS } from './errors.ts'

/** What happens to a request that arrives while closing, on a connection that is still open. */
export type DrainPolicy = 'serve' | 'refuse'

export interface Drain {
  readonly state: DrainState
  /** Aborted at the deadline of a stop, never before. */
  readonly signal: AbortSignal
  /** ms to the deadline; Infinity while serving. */
  remaining: () => number
  /**
   * Makes the stop wait for background work. A rejection is reported, and does not fail the stop.
   *
   * @returns the same promise
   * @throws FST_ERR_DRAIN_TRACK if it gets no promise
   */
  track: <T>(label: string, promise: Promise<T>) => Promise<T>
  /**
   * Runs the hook when the phase begins, or at once if it has begun. Can be called at any time, also from a handler.
   *
   * @returns the function that removes the hook
   * @throws FST_ERR_DRAIN_BUDGET if its timeout is longer than the deadline, FST_ERR_DRAIN_HOOK for other unusable arguments
   */
  on: (phase: DrainPhase, hook: DrainHook, options?: DrainHookOptions) => () => void
  /**
   * Stops as a signal does, or joins the stop under way. With `exit`, every app of the process stops, and the process ends.
   *
   * @returns the report, when the stop has ended; failures are in it
   */
  start: (reason: string) => Promise<DrainReport>
  /** The report as it stands now. */
  report: () => DrainReport
}

declare module 'fastify' {
  interface FastifyInstance {
    drain: Drain
  }
  interface FastifyContextConfig {
    /** Policy while closing. Default: served if the client could not know that it is late, otherwise refused. */
    drain?: DrainPolicy
  }
}

const fastifyDrain: FastifyPluginAsync<DrainOptions> = async (app, options) => {
  if (app.hasDecorator('drain')) throw new FST_ERR_DRAIN_TWICE()
  const settings = readOptions(options)
  const changed = (): void => stop.changed()

  const deadline = new Deadline(settings.deadline)
  const hooks = new Hooks(app.log, deadline, changed)
  const tracked = new TrackedWork(app.log, changed)
  const clock = new Clock()
  const requests = new Requests(clock, changed)
  const refuseUnbegun = (exchange: Exchange): void => {
    refuseRaw(exchange, settings.refusal)
    requests.giveUp(exchange)
  }
  const connections = new Connections(clock, requests, changed)
  const listeners = new Listeners(app, connections)
  const closeHooks = new CloseHooks()
  const { onClose, close } = closeHooks.watch(app, () => membership?.someQuiesced ?? stop.decided, () => membership?.reported)
  const stop = new Stop({
    app,
    settings,
    deadline,
    hooks,
    requests,
    connections,
    listeners,
    tracked,
    webSockets: new WebSockets(app),
    closeHooks,
    close,
    refuse: refuseUnbegun
  })

  const unfollow = followHandlers(app, requests)
  followReplies(app, requests)
  listeners.watch()
  noteBoot(app, outcome => stop.booting(outcome))

  let membership: Membership | undefined
  if (settings.exit) {
    membership = join({
      signals: settings.signals,
      log: app.log,
      stop: async cause => (await stop.start(cause)).exitCode ?? 0,
      quiesced: () => stop.decided,
      reportedCode: () => stop.reportedCode,
      cutShort: (how, escalated) => stop.cutShort(how, escalated).exitCode ?? 0,
      deadline: () => now() + deadline.remaining()
    })
  }

  const drain: Drain = {
    get state () { return stop.state },
    signal: deadline.signal,
    remaining: () => deadline.remaining(),
    track: (label, promise) => tracked.track(label, promise),
    on: (phase, hook, hookOptions) => hooks.on(phase, hook, hookOptions),
    start: reason => {
      membership?.stop({ reason })
      return stop.start({ reason })
    },
    report: () => stop.report()
  }
  app.decorate('drain', drain)

  app.addHook('onRequest', (request, reply, done) => {
    const exchange = exchangeOf(request.raw) ?? connections.appeared(request.raw, reply.raw)
    requests.routed(exchange, request, reply)
    if (exchange.fate === 'behind-close') {
      reply.hijack()
    } else if (stop.state === 'closing' && !admits(exchange)) {
      refuse(exchange, reply, settings.refusal)
    } else {
      if (stop.state !== 'serving') exemptFromPressure(request)
      done()
    }
  })

  app.addHook('onReady', async () => {
    // onClose hooks run in reverse order of registration. Fastify's own is one of them, and answers 503 from then on. This
    // one is registered only now, so that it runs before all others.
    onClose(async () => {
      stop.start({ reason: 'close', closing: true })
      await stop.quiesced
    })
    listeners.watch()
    stop.ready()
    dealWithOthers(app, membership?.otherListeners() ?? [], settings.takeSignals)
  })

  app.addHook('onListen', async () => {
    listeners.watch()
    stop.listening()
  })

  // The hook that is registered first runs last.
  app.addHook('onClose', async () => {
    unfollow()
    membership?.leave()
  })

  // Last: the hooks above are not the application's.
  followUserCode(app, requests)
}

/**
 * A failed boot never becomes ready. Only `app.ready()` tells, after it was called; to call it ends the registration,
 * which is not this plugin's to do.
 */
function noteBoot (app: FastifyInstance, noted: (outcome: () => Promise<unknown>) => void): void {
  const target = app as unknown as { ready: (...args: unknown[]) => unknown }
  const { ready } = target
  // If the application did not await the registration, it has called ready() before.
  if (stateOf(app)?.readyResolver != null) noted(async () => ready.call(app))
  target.ready = function (...args) {
    const result = ready.apply(this, args)
    noted(async () => ready.call(app))
    return result
  }
}

/** Private to Fastify, and found by the name of its symbol. If it is renamed, a stop waits for a failed boot until its deadline. */
function stateOf (app: FastifyInstance): { readonly readyResolver?: unknown } | undefined {
  return symbolProperty(app, 'fastify.state') as { readonly readyResolver?: unknown } | undefined
}

function dealWithOthers (app: FastifyInstance, others: OtherListener[], take: boolean): void {
  if (others.length === 0) return
  const named = others.map(({ signal, name }) => `${signal}: '${name}'`).join(', ')
  if (take) {
    // From the last to the first: process.off() removes the last listener of a function that listens twice.
    for (const { remove } of others.toReversed()) remove()
    app.log.info(`fastify-drain has taken other listeners of its signals off the process (${named})`)
  } else {
    app.log.warn(`Others listen to the signals that stop this service (${named}). One that ends the process, or closes the app, may cut what is in flight: turn it off, as "In your framework" says in node_modules/fastify-drain/README.md, or set \`takeSignals: true\``)
  }
}

export default fp(fastifyDrain, { fastify: '>=5.11.1 <6', name: 'fastify-drain' })
