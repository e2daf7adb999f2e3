import { relative } from 'node:path'
import type { ControlArguments } from './arguments.ts'
import type { Progress } from './progress.ts'

/** The repository of a service that verify proves without `--target`, and that can be broken on purpose. The installed package has none. */
export interface Home {
  /** What starts verify there. */
  readonly command: string
  /** Absolute path of the target file of its service. */
  readonly targetFile: string
  readonly controlNames: readonly string[]
  /** @returns whether every control was caught */
  readonly proveControls: (options: ControlArguments & { readonly progress: Progress }) => Promise<boolean>
  /** A sentence for a report: when the controls were last caught. */
  readonly lastCaught: () => Promise<string>
}

export function commandOf (home: Home | undefined): string {
  return home?.command ?? 'npx last-orders-verify'
}

/** The options that name the service, for the same command in the same folder. */
export function targetOptions (file: string, env: Readonly<Record<string, string>>, home?: Home): string {
  return [
    ...file === home?.targetFile ? [] : [`--target ${quoted(relative('', file))}`],
    ...Object.entries(env).map(([name, value]) => `--env ${quoted(`${name}=${value}`)}`)
  ].join(' ')
}

function quoted (text: string): string {
  return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
