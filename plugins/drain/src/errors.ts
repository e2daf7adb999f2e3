import createError, { type FastifyErrorConstructor } from '@fastify/error'

// Written out: what TypeScript infers, `createError.FastifyErrorConstructor`, is an error in a declaration file under
// `moduleResolution` bundler and node10, where the default import is the function without its namespace.
type Constructor<Parameters extends unknown[]> = FastifyErrorConstructor<{ code: string }, Parameters>

/** An option has a value that the plugin cannot use. Thrown at registration. */
export const FST_ERR_DRAIN_OPTION: Constructor<[string]> = createError<[string]>(
  'FST_ERR_DRAIN_OPTION',
  'fastify-drain: %s. The plugin was not registered: correct the option and start again',
  500,
  TypeError
)

/** The phases of a stop do not fit into its deadline. Thrown at registration, or by `app.drain.on()` for a hook. */
export const FST_ERR_DRAIN_BUDGET: Constructor<[string]> = createError<[string]>(
  'FST_ERR_DRAIN_BUDGET',
  'fastify-drain: the stop cannot keep its deadline: %s. Nothing was registered: raise `deadline`, or shorten the phase',
  500,
  RangeError
)

/** Two versions of the package that do not understand each other are loaded in one process. */
export const FST_ERR_DRAIN_VERSIONS: Constructor<[string, string]> = createError<[string, string]>(
  'FST_ERR_DRAIN_VERSIONS',
  'fastify-drain: another copy of the package, protocol %s, already stops this process; this copy speaks protocol %s. The plugin was not registered: install one version, for example with `npm dedupe`'
)

/** The app has the plugin already. Thrown at registration. */
export const FST_ERR_DRAIN_TWICE: Constructor<[]> = createError(
  'FST_ERR_DRAIN_TWICE',
  'fastify-drain: the plugin is registered on this app already. It was not registered again: register it once, on the root'
)

/** `app.drain.track()` was given something that is no promise. */
export const FST_ERR_DRAIN_TRACK: Constructor<[string, string]> = createError<[string, string]>(
  'FST_ERR_DRAIN_TRACK',
  "fastify-drain: track('%s') was given %s, and no promise. Nothing is waited for: pass the promise of the work",
  500,
  TypeError
)

/** `app.drain.on()` was given a phase, a hook or a timeout that it cannot use. */
export const FST_ERR_DRAIN_HOOK: Constructor<[string]> = createError<[string]>(
  'FST_ERR_DRAIN_HOOK',
  'fastify-drain: %s. The hook was not added: correct the call of `app.drain.on()`',
  500,
  TypeError
)
