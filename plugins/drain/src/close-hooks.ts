import type { FastifyInstance } from 'fastify'
import { functionName } from './function-name.ts'

type Done = (error?: Error) => void
type CloseHook = (instance: FastifyInstance, done: Done) => unknown
/** Fastify calls it on the instance that it was added to, with a callback if it takes one. */
type PreCloseHook = (this: FastifyInstance, done: Done) => unknown

/** A `preClose` hook. It runs once: when closing begins, or otherwise in `app.close()`. */
export interface PreClose {
  /** What a log calls it: its name, or the beginning of its source, and the plugin that added it. */
  readonly name: string
  readonly run: () => Promise<void>
}

/** Watches the hooks of `app.close()`: Fastify bounds no `onClose` hook, does not say which one hangs, and runs `preClose` late. */
export class CloseHooks {
  /** In the order in which they were added. */
  readonly preClose: PreClose[] = []
  readonly #running = new Set<string>()

  /**
   * Watches the hooks that are added from now on: every `addHook('onClose')` of the app and its children.
   *
   * @param late whether the `onClose` hooks of a stop run already: one of them that waited for the stop would wait for itself
   * @param joins waits for the stop of the process that is under way, if there is one. Without it, code that closes the app
   * and then ends the process would lose the report
   * @returns the original methods, for the stop itself
   */
  watch (
    app: FastifyInstance,
    late: () => boolean,
    joins: () => Promise<void> | undefined
  ): { onClose: (hook: () => Promise<void>) => void, close: () => Promise<void> } {
    const target = app as unknown as {
      onClose: (this: FastifyInstance, hook: CloseHook) => FastifyInstance
      addHook: (this: FastifyInstance, name: string, hook: unknown) => FastifyInstance
      close: (this: FastifyInstance, ...args: unknown[]) => Promise<void>
    }
    const { onClose, addHook, close } = target
    // addHook() binds the function, and a bound function shows no source.
    let unbound: CloseHook | undefined
    const noted = (hook: CloseHook, plugin: string): CloseHook => this.#noted(hook, nameOf(unbound ?? hook, plugin))
    const once = (hook: PreCloseHook, instance: FastifyInstance): PreCloseHook => this.#once(hook, instance)
    target.onClose = function (hook) {
      return onClose.call(this, noted(hook, this.pluginName))
    }
    target.addHook = function (name, hook) {
      unbound = name === 'onClose' ? hook as CloseHook : undefined
      try {
        return addHook.call(this, name, name === 'preClose' && typeof hook === 'function' ? once(hook as PreCloseHook, this) : hook)
      } finally {
        unbound = undefined
      }
    }
    target.close = function (...args) {
      const alone = args.length > 0 || late()
      const closed = close.apply(this, args)
      // Asked late: a signal listener that was added before the plugin's closes the app before the stop begins.
      return alone ? closed : closed.then(joins)
    }
    return {
      onClose: hook => { onClose.call(app, hook) },
      close: () => close.call(app)
    }
  }

  /** The hooks that `app.close()` waits for. */
  describe (): string {
    if (this.#running.size === 0) return 'in a preClose hook, or for the server to close'
    return `in the onClose hook ${[...this.#running].join(', ')}`
  }

  #noted (hook: CloseHook, entry: string): CloseHook {
    const running = this.#running
    const ended = (): void => { running.delete(entry) }
    // The number of parameters tells Fastify whether a hook takes a callback.
    if (hook.length > 1) {
      return (instance, done) => {
        running.add(entry)
        return hook(instance, error => {
          ended()
          done(error)
        })
      }
    }
    return function (instance: FastifyInstance): unknown {
      running.add(entry)
      const result = Promise.resolve((hook as (instance: FastifyInstance) => unknown)(instance))
      result.then(ended, ended)
      return result
    } as CloseHook
  }

  #once (hook: PreCloseHook, instance: FastifyInstance): PreCloseHook {
    let outcome: Promise<void> | undefined
    const run = (): Promise<void> => {
      outcome ??= new Promise<void>((resolve, reject) => {
        if (hook.length > 0) hook.call(instance, error => { error == null ? resolve() : reject(error) })
        else Promise.resolve((hook as (this: FastifyInstance) => unknown).call(instance)).then(() => resolve(), reject)
      })
      return outcome
    }
    this.preClose.push({ name: `preClose hook ${nameOf(hook, instance.pluginName)}`, run })
    // If it ran before, its outcome was reported then.
    return function () { return outcome === undefined ? run() : undefined }
  }
}

/**
 * Describes a hook and its plugin.
 *
 * @param chain `pluginName`: on the root it names all plugins that share the root's context, this package included
 */
function nameOf (hook: { readonly name: string }, chain: string): string {
  return `'${functionName(hook)}' of ${chain.replace(' -> fastify-drain', '')}`
}
