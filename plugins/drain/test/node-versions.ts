import { execFile } from 'node:child_process'
import { access, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** The major versions that the package promises to run on. */
export const nodeVersions = [20, 22, 24, 26]

const cache = fileURLToPath(new URL('../../../.cache/', import.meta.url))

/**
 * The path of a Node of that major version: the running one if it fits, otherwise the newest that npm has, installed
 * once into a folder of its own.
 */
export async function nodeOf (major: number): Promise<string> {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath
  const platform = process.platform === 'win32' ? 'win' : process.platform
  const name = `node-${platform}-${process.arch}`
  const folder = join(cache, `node-${major}`)
  const binary = join('node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
  if (await exists(join(folder, binary))) return join(folder, binary)

  // Installed beside its place and then moved there, so that an interrupted install, or two at once, leave no half one.
  const unfinished = `${folder}.${process.pid}`
  try {
    await promisify(execFile)('npm', ['install', '--prefix', unfinished, '--no-save', '--no-package-lock', `${name}@${major}`])
    await rename(unfinished, folder).catch(async (error: unknown) => {
      if (!await exists(join(folder, binary))) throw error
    })
  } catch (error) {
    throw new Error(`Node ${major} could not be installed, so nothing was run on it: see the cause, and whether npm has ${name}@${major}`, { cause: error })
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  return join(folder, binary)
}

async function exists (path: string): Promise<boolean> {
  return access(path).then(() => true, () => false)
}
