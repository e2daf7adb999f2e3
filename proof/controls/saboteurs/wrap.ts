/** Replaces a method by `around`; `before` calls the original method on the same object. */
export function wrap (
  of: object,
  name: string,
  around: (before: (args: readonly unknown[]) => unknown, args: readonly unknown[], self: unknown) => unknown
): void {
  const method = Reflect.get(of, name) as unknown
  if (typeof method !== 'function') throw new Error(`There is no method ${name} to be spoiled. Nothing was spoiled, and the service was not started.`)
  Reflect.set(of, name, function (this: unknown, ...args: unknown[]) {
    return around(args => Reflect.apply(method, this, args), args, this)
  })
}

/** Runs before all listeners, without being one: services check who listens. */
export function atSignal (act: () => void): void {
  wrap(process, 'emit', (emit, args) => {
    if (args[0] === 'SIGTERM') act()
    return emit(args)
  })
}
