/** Asks at most once in `maxAgeMs`, and gives each caller that answer. It remembers no failure. */
export function remembered<T> (maxAgeMs: number, ask: () => Promise<T>): () => Promise<T> {
  let asking: Promise<T> | undefined
  let askedAt = -Infinity
  return async () => {
    if (asking !== undefined && performance.now() - askedAt < maxAgeMs) return await asking
    askedAt = performance.now()
    const asked = asking = ask()
    asked.catch(() => { if (asking === asked) asking = undefined })
    return await asked
  }
}
