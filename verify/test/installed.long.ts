import { execFileSync } from 'node:child_process'
import { cpSync, globSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { prove } from './prove.ts'

const repository = join(import.meta.dirname, '../..')

t.test('the packed package, installed alone in an empty folder, proves the example of another service', async t => {
  // Not below the repository, where Node would find what the package lacks.
  const folder = mkdtempSync(join(tmpdir(), 'last-orders-installed-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  npm(repository, 'pack', '--workspace', 'last-orders-verify', '--pack-destination', folder)
  npm(folder, 'init', '--yes')
  // It brings a Postgres and a Node, which this service does without.
  npm(folder, 'install', '--omit=optional', '--no-audit', '--no-fund', '--prefer-offline', ...globSync(join(folder, '*.tgz')))
  cpSync(join(folder, 'node_modules/last-orders-verify/examples/plain-node'), join(folder, 'service'), { recursive: true })

  const command = [process.execPath, join(folder, 'node_modules/.bin/last-orders-verify')] as const
  const { code, verdict, printed } = await prove(t, ['--target', 'service/target.mts', '--duration', '6', '--rate', '500'], { cwd: folder, command })
  t.equal(code, 0, printed)
  t.match(verdict, { verdict: 'held', target: 'plain-node', lost: 0 })
  for (const { exitCode } of verdict.faults) t.equal(exitCode, 0)
})

function npm (cwd: string, ...args: string[]): void {
  execFileSync('npm', ['--silent', ...args], { cwd, stdio: ['ignore', 'ignore', 'inherit'] })
}
