import { parseArgs } from 'node:util'
import type { ParseArgsConfig } from 'node:util'
import { forPeople, UserError } from '../user-error.ts'

type Options = NonNullable<ParseArgsConfig['options']>

/**
 * Reads the options of the program. `--help` prints the usage and exits. Wrong options are printed, and the program exits
 * with 2 before it starts anything.
 *
 * @param whole the names of the options that take a whole number
 */
export function readArguments<T extends Options> (options: T, usage: string, whole: readonly string[] = []): ReturnType<typeof parseArgs<{ options: T }>>['values'] {
  try {
    const { values } = parseArgs({ options })
    if (Object.hasOwn(values, 'help') && (values as { help?: boolean }).help === true) {
      console.log(usage)
      process.exit()
    }
    for (const name of whole) {
      const value = (values as Record<string, unknown>)[name]
      if (!/^\d+$/.test(String(value))) throw new UserError(`--${name} is '${String(value)}', and takes a whole number.`)
    }
    return values
  } catch (error) {
    giveUp(error, usage)
  }
}

/** Ends the program because something that the arguments ask for does not exist. */
export function giveUp (error: unknown, usage: string): never {
  console.error('%s\nNothing was started.\n\n%s', forPeople(error), usage)
  process.exit(2)
}
