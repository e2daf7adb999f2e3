import { signToken } from '../auth/local-token.ts'
import { startProgram, type Program } from './program.ts'

const secret = 'a secret for tests, of more than thirty-two bytes'

export interface Service extends Program {
  url: string
  opsUrl: string
  token (sub: string, options?: { staff?: boolean }): string
}

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

/** Starts the whole service in a process of its own, on ports of its own. */
export async function startService (t: Test, env: Record<string, string>): Promise<Service> {
  const service = spawnService(t, { PORT: '0', OPS_PORT: '0', AUTH_JWT_SECRET: secret, ...env })
  await service.line(/^ {2}ops {3}/)
  const originOf = (label: string): string => /https?:\/\/\S+/.exec(service.lines.find(line => line.startsWith(`  ${label} `)) ?? '')?.[0] ?? ''
  return { ...service, url: originOf('API'), opsUrl: originOf('ops') }
}

/** Starts the service, and does not wait until it is ready. */
export function spawnService (t: Test, env: Record<string, string>, cwd = new URL('..', import.meta.url).pathname): Omit<Service, 'url' | 'opsUrl'> {
  return {
    ...startProgram(t, [process.execPath, 'server.ts'], { cwd, env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env } }),
    token: (sub, options) => signToken({ secret, sub, ...options })
  }
}
