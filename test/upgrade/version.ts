import { join } from 'node:path'
import type { Test } from 'tap'
import { runProgram } from '../program.ts'
import { spawnService, type Service } from '../service.ts'

const root = join(import.meta.dirname, '../..')
const secret = 'a secret for tests, of more than thirty-two bytes'

/** An instance of a version of the service. */
export type Version = Pick<Service, 'child' | 'url' | 'token' | 'line' | 'lines' | 'exited'>

/** @param tree where its code is. Default: the repository. */
export async function startVersion (t: Test, databaseUrl: string, { tree = root, ...env }: { tree?: string } & Record<string, string> = {}): Promise<Version> {
  const service = spawnService(t, {
    PORT: '0',
    OPS_PORT: '0',
    DATABASE_URL: databaseUrl,
    AUTH_JWT_SECRET: secret,
    DRAIN_MIN_MS: '300',
    DRAIN_QUIET_MS: '100',
    DRAIN_MAX_MS: '3000',
    ...env
  }, tree)
  const ready = await service.line(/^ {2}API /)
  return { ...service, url: /http:\S+/.exec(ready)?.[0] ?? '' }
}

/** Runs the tree's migrations on the database, as the step of a deployment does. */
export async function migrateTo (tree: string, databaseUrl: string): Promise<{ code: number | string, output: string }> {
  const env = { PATH: process.env.PATH, DATABASE_URL: databaseUrl }
  const { code, stdout, stderr } = await runProgram([process.execPath, 'prisma/migrate.ts'], { cwd: tree, env })
  return { code, output: stdout + stderr }
}
