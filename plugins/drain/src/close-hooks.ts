import type { FastifyInstance } from 'fastify'

type Done = (error?: Error) => void
type CloseHook = (instance: FastifyInstance, done: Done) => unknown

/** Knows which `onClose` hooks of the app are under way: Fastify bounds none of them, and does not tell which one hangs. */
export class CloseHooks {
  readonly #running = new Set<string>()

  /**
   * Of hooks that are added from now on. Every `addHook('onClose')` of the app and its children comes through `onClose`.
   *
   * @returns the method as it was, for hooks of the stop itself
   */
  watch (app: FastifyInstance): (hook: () => Promise<void>) => void {
    const target = app as unknown as { onClose: (this: FastifyInstance, hook: CloseHook) => FastifyInstance }
    const onClose = target.onClose
    const noted = (hook: CloseHook, plugin: string): CloseHook => this.#noted(hook, plugin)
    target.onClose = function (hook) {
      return onClose.call(this, noted(hook, this.pluginName))
    }
    return (hook) => { onClose.call(app, hook) }
  }

  /** What `app.close()` waits for. */
  describe (): string {
    if (this.#running.size === 0) return 'in a preClose hook, or for the server to close'
    return `in the onClose hook ${[...this.#running].join(', ')}`
  }

  #noted (hook: CloseHook, plugin: string): CloseHook {
    const running = this.#running
    // addHook() binds what it is given.
    const name = hook.name.replace(/^bound /, '')
    const entry = `${name === '' ? 'without a name' : `'${name}'`} of ${plugin}`
    const ended = (): void => { running.delete(entry) }
    // The number of parameters tells Fastify whether a hook takes a callback.
    if (hook.length > 1) {
      return (instance, done) => {
        running.add(entry)
        return hook(instance, (error) => {
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
}
