/** Puts `around` in the place of a method; `before` calls the one that was there, upon the same object. */
export function wrap (of: object, name: string, around: (before: (args: readonly unknown[]) => unknown, args: readonly unknown[], self: unknown) => unknown): void {
  const method = Reflect.get(of, name) as unknown
  if (typeof method !== 'function') throw new Error(`There is no method ${name} to be spoiled. Nothing was spoiled, and the service was not started.`)
  Reflect.set(of, name, function (this: unknown, ...args: unknown[]) {
    return around(args => Reflect.apply(method, this, args), args, this)
  })
}

/** Before anybody else hears of it, and without being one who listens: services look who does. */
export function atSignal (act: () => void): void {
  wrap(process, 'emit', (emit, args) => {
    if (args[0] === 'SIGTERM') act()
    return emit(args)
  })
}
