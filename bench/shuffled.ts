/** A shuffled copy, the same for the same numbers. */
export function shuffled<T> (items: readonly T[], next: () => number): T[] {
  return items.map(item => ({ item, at: next() })).sort((a, b) => a.at - b.at).map(({ item }) => item)
}
