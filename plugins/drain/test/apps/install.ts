import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, rm, stat } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const here = new URL('./', import.meta.url)
const drain = new URL('../../', import.meta.url)

/** Installs the frameworks into a folder of their own, which nothing else in the repository uses. */
export async function install (say: (line: string) => void): Promise<void> {
  const [wanted, installed] = await Promise.all(['package-lock.json', 'node_modules/.package-lock.json'].map(async file => {
    return (await stat(new URL(file, here)).catch(() => undefined))?.mtimeMs ?? 0
  }))
  if (wanted === undefined || installed === undefined || installed < wanted) {
    say('Installing the frameworks: npm ci --prefix plugins/drain/test/apps --ignore-scripts')
    await run(['npm', 'ci', '--prefix', fileURLToPath(here), '--ignore-scripts'], fileURLToPath(here))
  }
  await refreshDrain()
}

/**
 * Renews npm's copy of the package, which ages. It is a copy (`install-links` in .npmrc), because a symbolic link would resolve
 * the peer `fastify` to the repository's, a second one beside that of the application.
 */
async function refreshDrain (): Promise<void> {
  const copy = new URL('node_modules/fastify-drain/', here)
  await rm(new URL('dist/', copy), { recursive: true, force: true })
  for (const entry of ['package.json', 'dist']) await cp(new URL(entry, drain), new URL(entry, copy), { recursive: true })
}

/** Runs a program. Its output goes to stderr, because stdout is for the table. */
export async function run ([program, ...args]: readonly [string, ...string[]], cwd: string): Promise<void> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', process.stderr, process.stderr] })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`${[program, ...args].join(' ')} ended with ${String(code)}. Its output is above.`)
}
