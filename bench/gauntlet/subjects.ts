import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export interface Subject {
  /** The name of its column and of its recipe, `../peers/<name>.js`. */
  name: string
  /** Undefined for Fastify alone. */
  package?: string
  /** The exit code of its clean stop. Default 0. */
  cleanExit?: number
}

/** The subject that must pass every case. */
export const ours = 'fastify-drain'

export const allSubjects: readonly Subject[] = [
  { name: ours, package: 'fastify-drain' },
  { name: 'close' },
  { name: 'close-with-grace', package: 'close-with-grace' },
  { name: 'restartable', package: '@fastify/restartable' },
  { name: 'fastify-graceful-shutdown', package: 'fastify-graceful-shutdown' },
  { name: 'terminus', package: '@godaddy/terminus' },
  { name: 'http-terminator', package: 'http-terminator' },
  { name: 'http-graceful-shutdown', package: 'http-graceful-shutdown' },
  { name: 'stoppable', package: 'stoppable' },
  { name: 'graceful-server', package: '@gquittet/graceful-server', cleanExit: 15 },
  { name: 'lightship', package: 'lightship' }
]

const repository = new URL('../../', import.meta.url)
const peers = new URL('bench/peers/', repository)

export async function installPeers (say: (line: string) => void): Promise<void> {
  const [wanted, installed] = await Promise.all(['package-lock.json', 'node_modules/.package-lock.json'].map(async file => {
    return (await stat(new URL(file, peers)).catch(() => undefined))?.mtimeMs ?? 0
  }))
  if (wanted !== undefined && installed !== undefined && installed >= wanted) return
  say('Installing the peers into bench/peers: npm ci --prefix bench/peers')
  await promisify(execFile)('npm', ['ci', '--prefix', fileURLToPath(peers)], { cwd: repository })
}

/** As `package 1.2.3`. */
export async function versionOf ({ name, package: packageName = 'fastify' }: Subject): Promise<string> {
  const manifest = new URL(`node_modules/${packageName}/package.json`, name === ours || packageName === 'fastify' ? repository : peers)
  const { version } = JSON.parse(await readFile(manifest, 'utf8')) as { version: string }
  return `${packageName} ${version}`
}
