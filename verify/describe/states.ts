type Steps = Readonly<Record<string, readonly string[]>>

/** The steps of an order where nobody says otherwise. */
const usualSteps: Steps = { placed: ['paid', 'cancelled'], paid: ['shipped', 'cancelled'], shipped: ['delivered'] }

const beyond = 1_000

/** Names of states: a service's own, and those that verify knows. */
export class States {
  readonly transitions: Steps | undefined
  readonly #known = new Map<string, string>()
  readonly #ranks = new Map<string, number>()

  /** @param names what the service calls them @param transitions in its names */
  constructor (names: Readonly<Record<string, string | readonly string[]>> = {}, transitions?: Steps) {
    for (const [known, own] of Object.entries(names)) {
      for (const name of [own].flat()) this.#known.set(name, known)
    }
    this.transitions = transitions && merged(Object.entries(transitions).map(([from, to]) => [this.known(from), to.map(name => this.known(name))]))
  }

  /** The name that verify has for it; a state that it has none for keeps its own. */
  known (own: string): string {
    return this.#known.get(own) ?? own
  }

  /**
   * How far on its way an order in this state is at most, from 1. It stands for a version where a service has none: of two
   * states of one order, the later one has the higher rank; two of the same rank are not on one way.
   */
  rank (known: string): number {
    const reached = this.#ranks.get(known)
    if (reached !== undefined) return reached
    const steps = this.transitions ?? usualSteps
    const before = Object.entries(steps).filter(([, to]) => to.includes(known))
    // One that no step leads to or from comes when all else is over.
    const rank = before.length === 0 && !Object.hasOwn(steps, known) ? beyond : 1 + Math.max(0, ...before.map(([from]) => this.rank(from)))
    this.#ranks.set(known, rank)
    return rank
  }
}

/** States that lead back to themselves, in their order; undefined: there are none. */
export function cycle (steps: Steps): string[] | undefined {
  const visit = (state: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(state)) return [...way.slice(way.indexOf(state)), state]
    for (const next of steps[state] ?? []) {
      const found = visit(next, [...way, state])
      if (found !== undefined) return found
    }
  }
  for (const state of Object.keys(steps)) {
    const found = visit(state, [])
    if (found !== undefined) return found
  }
}

/** Two names of the service may be one of verify's. */
function merged (entries: ReadonlyArray<readonly [string, readonly string[]]>): Steps {
  const steps: Record<string, string[]> = {}
  for (const [from, to] of entries) {
    for (const state of [from, ...to]) steps[state] ??= []
    steps[from]?.push(...to.filter(state => state !== from))
  }
  return steps
}
