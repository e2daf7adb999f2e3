import type { StopAccount, StopOptions } from 'fastify-drain/test'

/** An application as its framework has it, with fastify-drain added. */
export interface Recipe {
  /** Also its folder, unless `cwd` says otherwise. */
  name: string
  title: string
  /**
   * What starts it, as its own `npm start` does: `node`, or a bin of this package. No npm and no shell: they keep the
   * signal or change the exit code.
   */
  command: readonly [string, ...string[]]
  /** Where it is started, below this folder. Default: `name`. */
  cwd?: string
  /** Run once before the start, in `cwd`. */
  build?: readonly [string, ...string[]]
  /** The path that the load asks for by default, below the origin that the runner has chosen. */
  path: string
  /** A path that answers with less than 500 once it is up, or what a line of its output matches. Default: `path`. */
  ready?: string | RegExp
  /** What to give the kit beside that. The environment gets `PORT` and `HOST` as well. */
  options?: Partial<Omit<StopOptions, 'command' | 'cwd' | 'url' | 'ready'>>
  /** The files whose lines are marked with `drain` in a comment: the lines to adopt. */
  marked: readonly string[]
  /** ms that it goes on accepting after the signal, at least. Default 0. */
  lameDuck?: number
  /** What it needs: a database, a sink. `end` is called when all is judged, or when nothing was. */
  prepare?: () => Promise<{ env?: Record<string, string>, end: () => Promise<void> }>
  /** Clients that the kit does not have, such as a subscription. They ask again until the service is up. */
  beside?: (origin: string) => Beside
  /** A judgement of its own, in one line for each fault. */
  after?: (account: StopAccount) => string[] | Promise<string[]>
}

export interface Beside {
  /** Called after the exit. Resolves with one line for each fault, none where all ended as it should. */
  ended: (account: StopAccount) => Promise<string[]>
}
