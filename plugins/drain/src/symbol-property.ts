/**
 * A property that another package keeps behind a symbol which it does not export, own or inherited, found by the symbol's
 * description. Undefined if there is none, for example after a renaming.
 */
export function symbolProperty (object: object, description: string): unknown {
  for (let holder: object | null = object; holder !== null; holder = Object.getPrototypeOf(holder) as object | null) {
    const key = Object.getOwnPropertySymbols(holder).find(symbol => symbol.description === description)
    if (key !== undefined) return (object as Record<symbol, unknown>)[key]
  }
  return undefined
}
