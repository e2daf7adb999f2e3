import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const localSecretFile = join(import.meta.dirname, '../.data/jwt-secret')

/** The secret for use with the embedded database: made once, readable only by its owner, and useless elsewhere. */
export function localSecret (file = localSecretFile): string {
  mkdirSync(dirname(file), { recursive: true })
  try {
    // Exclusive, so that two first starts read the same secret: only one makes it.
    writeFileSync(file, randomBytes(32).toString('base64url'), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return readFileSync(file, 'utf8')
}

/** The same if it exists; undefined if it does not, or if this account may not read it. */
export function readLocalSecret (file = localSecretFile): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
