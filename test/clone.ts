import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')

/** Copies the service from the repository, as a clone would have it. The copy shares the repository's node_modules. */
export function cloneOfRepository (t: { teardown (end: () => void): unknown }): string {
  const clone = mkdtempSync(join(tmpdir(), 'last-orders-'))
  t.teardown(() => rmSync(clone, { recursive: true, force: true }))
  for (const part of ['app.ts', 'auth', 'check-node.mjs', 'commit', 'config', 'config.ts', 'ops.ts', 'orders', 'outbox', 'package.json', 'plugins', 'postgres', 'prisma', 'routes', 'server.ts', 'tracing', 'user-error.ts']) {
    cpSync(join(root, part), join(clone, part), { recursive: true, filter: source => !source.includes('node_modules') })
  }
  symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'))
  return clone
}
