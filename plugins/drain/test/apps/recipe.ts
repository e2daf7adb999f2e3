import type { StopAccount, StopOptions } from 'fastify-drain/test'

/** An application as its framework generates it, with fastify-drain added. */
export interface Recipe {
  /** Also its folder, unless `cwd` says otherwise. */
  name: string
  title: string
  /**
   * The command that its own `npm start` runs: `node`, or a bin of this package. npm and a shell would keep the signal or
   * change the exit code.
   */
  command: readonly [string, ...string[]]
  /** The folder where it starts, below this one. Default: `name`. */
  cwd?: string
  /** Runs once before the start, in `cwd`. */
  build?: readonly [string, ...string[]]
  /** The path that the load asks for by default, below the origin that the runner has chosen. */
  path: string
  /** Tells that it is up: a path that answers with less than 500, or a pattern of a line of its output. Default: `path`. */
  ready?: string | RegExp
  /** Further options for the kit. The environment gets `PORT` and `HOST` as well. */
  options?: Partial<Omit<StopOptions, 'command' | 'cwd' | 'url' | 'ready'>>
  /** The files whose lines are marked with `drain` in a comment: the lines to adopt. */
  marked: readonly string[]
  /** The least time for which it accepts after the signal, in ms. Default: 0. */
  lameDuck?: number
  /** Starts what it needs, such as a database. `end` is called after the judgement, and after a failure. */
  prepare?: () => Promise<{ env?: Record<string, string>, end: () => Promise<void> }>
  /** Clients that the kit does not have, such as a subscription. They retry until the service is up. */
  beside?: (origin: string) => Beside
  /** Its own judgement. Returns one line for each fault. */
  after?: (account: StopAccount) => string[] | Promise<string[]>
}

export interface Beside {
  /** Called after the exit. Resolves with one line for each fault. */
  ended: (account: StopAccount) => Promise<string[]>
}
