/**
 * What an object of another package keeps behind a symbol that it does not export, found by the symbol's description: own
 * or inherited. Undefined where there is none, as after a renaming.
 */
export function symbolProperty (object: object, description: string): unknown {
  for (let holder: object | null = object; holder !== null; holder = Object.getPrototypeOf(holder) as object | null) {
    const key = Object.getOwnPropertySymbols(holder).find((symbol) => symbol.description === description)
    if (key !== undefined) return (object as Record<symbol, unknown>)[key]
  }
  return undefined
}
