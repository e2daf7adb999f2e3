import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const localSecretFile = join(import.meta.dirname, '../.data/jwt-secret')

/** The secret of the embedded database's service: made once, readable by its owner alone, and worth nothing elsewhere. */
export function localSecret (file = localSecretFile): string {
  mkdirSync(dirname(file), { recursive: true })
  try {
    // Exclusive, so that of two first starts one makes it and both read the same.
    writeFileSync(file, randomBytes(32).toString('base64url'), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return readFileSync(file, 'utf8')
}

/** The same where it was made; undefined where it was not, or where this account may not read it. */
export function readLocalSecret (file = localSecretFile): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
