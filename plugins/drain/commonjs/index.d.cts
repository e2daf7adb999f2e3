// Declares what index.cjs exports, out of the build's own declarations. Those alone do not do: under node16 TypeScript lets
// no CommonJS file import the types of an ES module, and under node10 it does not read `exports`.
import type * as drain from '../dist/index.js' with { 'resolution-mode': 'import' }

type Plugin = typeof drain.default

declare function fastifyDrain (...parameters: Parameters<Plugin>): ReturnType<Plugin>

declare namespace fastifyDrain {
  export type ConnectionEnds = drain.ConnectionEnds
  export type Drain = drain.Drain
  export type DrainExitCode = drain.DrainExitCode
  export type DrainHook = drain.DrainHook
  export type DrainHookContext = drain.DrainHookContext
  export type DrainHookOptions = drain.DrainHookOptions
  export type DrainOptions = drain.DrainOptions
  export type DrainPhase = drain.DrainPhase
  export type DrainPolicy = drain.DrainPolicy
  export type DrainReport = drain.DrainReport
  export type DrainState = drain.DrainState
  export type HookReport = drain.HookReport
  export type LameDuck = drain.LameDuck
  export type PendingRequest = drain.PendingRequest
  export type PendingWork = drain.PendingWork
  export type Tally = drain.Tally

  export const FST_ERR_DRAIN_BUDGET: typeof drain.FST_ERR_DRAIN_BUDGET
  export const FST_ERR_DRAIN_HOOK: typeof drain.FST_ERR_DRAIN_HOOK
  export const FST_ERR_DRAIN_OPTION: typeof drain.FST_ERR_DRAIN_OPTION
  export const FST_ERR_DRAIN_TRACK: typeof drain.FST_ERR_DRAIN_TRACK
  export const FST_ERR_DRAIN_TWICE: typeof drain.FST_ERR_DRAIN_TWICE
  export const FST_ERR_DRAIN_VERSIONS: typeof drain.FST_ERR_DRAIN_VERSIONS

  export { fastifyDrain as default }
}

export = fastifyDrain
