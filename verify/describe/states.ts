type Steps = Readonly<Record<string, readonly string[]>>

/** The transitions of an order, unless the description has others. */
const usualSteps: Steps = { placed: ['paid', 'cancelled'], paid: ['shipped', 'cancelled'], shipped: ['delivered'] }

const beyond = 1_000

/** Maps the state names of a service to those of verify. */
export class States {
  readonly transitions: Steps | undefined
  readonly #known = new Map<string, string>()
  readonly #ranks = new Map<string, number>()

  /** @param names the service's names @param transitions in the service's names */
  constructor (names: Readonly<Record<string, string | readonly string[]>> = {}, transitions?: Steps) {
    for (const [known, own] of Object.entries(names)) {
      for (const name of [own].flat()) this.#known.set(name, known)
    }
    this.transitions = transitions && merged(Object.entries(transitions).map(([from, to]) => [this.known(from), to.map(name => this.known(name))]))
  }

  /** The name that verify uses; a state that verify does not know keeps its own. */
  known (own: string): string {
    return this.#known.get(own) ?? own
  }

  /**
   * How far an order in this state can be at most, from 1. It replaces the version if a service has none: of two states of
   * one order, the later one has the higher rank; one order never has two states of the same rank.
   */
  rank (known: string): number {
    const reached = this.#ranks.get(known)
    if (reached !== undefined) return reached
    const steps = this.transitions ?? usualSteps
    const before = Object.entries(steps).filter(([, to]) => to.includes(known))
    // A state without transitions to or from it comes last.
    const rank = before.length === 0 && !Object.hasOwn(steps, known) ? beyond : 1 + Math.max(0, ...before.map(([from]) => this.rank(from)))
    this.#ranks.set(known, rank)
    return rank
  }
}

/** The states of a cycle, in their order; undefined if there is none. */
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

/** Two names of the service may map to one of verify's. */
function merged (entries: ReadonlyArray<readonly [string, readonly string[]]>): Steps {
  const steps: Record<string, string[]> = {}
  for (const [from, to] of entries) {
    for (const state of [from, ...to]) steps[state] ??= []
    steps[from]?.push(...to.filter(state => state !== from))
  }
  return steps
}
