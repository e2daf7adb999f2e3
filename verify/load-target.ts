import { extname } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Target } from './target.ts'
import { UserError } from '../user-error.ts'

/**
 * The target of a file: a module's default export, or made from a description in YAML or JSON.
 *
 * @throws UserError with an explanation if it is neither
 */
export async function loadTarget (file: string): Promise<Target> {
  if (['.yaml', '.yml', '.json'].includes(extname(file))) {
    // A module needs no YAML parser.
    const { describedTarget } = await import('./describe/target.ts')
    return describedTarget(file)
  }
  const { default: target } = await import(pathToFileURL(file).href) as { default?: Target }
  if (typeof target?.request !== 'function') throw new UserError(`${file} has no default export that is a Target. Nothing was started; verify/target.ts says what one is.`)
  return target
}
