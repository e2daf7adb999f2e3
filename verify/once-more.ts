import { existsSync } from 'node:fs'
import { join, relative } from 'node:path'

/** The service of this repository. */
export const ownTarget = join(import.meta.dirname, 'targets/order-service.ts')

/** false in the package, installed beside another service. */
export const isAtHome = existsSync(ownTarget)

export const commandHere = isAtHome ? 'npm run verify --' : 'npx last-orders-verify'

/** The options that name the service, for the same command in the same folder. */
export function targetOptions (file: string, env: Readonly<Record<string, string>>): string {
  return [
    ...file === ownTarget ? [] : [`--target ${quoted(relative('', file))}`],
    ...Object.entries(env).map(([name, value]) => `--env ${quoted(`${name}=${value}`)}`)
  ].join(' ')
}

function quoted (text: string): string {
  return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
