import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { signToken } from '../auth/local-token.ts'

const secret = 'a secret for tests, of more than thirty-two bytes'

export interface Service {
  child: ChildProcess
  url: string
  opsUrl: string
  /** Everything it has printed. */
  lines: string[]
  /** Resolves with the first matching line, past or future. */
  line (pattern: RegExp): Promise<string>
  token (sub: string, options?: { staff?: boolean }): string
  exited: Promise<[code: number | null, signal: NodeJS.Signals | null]>
}

interface Test {
  teardown (end: () => Promise<unknown>): unknown
}

/** Starts the whole service in a process of its own, on ports of its own. */
export async function startService (t: Test, env: Record<string, string>): Promise<Service> {
  const service = spawnService(t, { PORT: '0', OPS_PORT: '0', AUTH_JWT_SECRET: secret, ...env })
  const ready = await Promise.race([service.line(/^ {2}ops {3}/), service.exited])
  if (typeof ready !== 'string') throw new Error(`The service ended with ${String(ready)}:\n${service.lines.join('\n')}`)
  const originOf = (label: string): string => /https?:\/\/\S+/.exec(service.lines.find(line => line.startsWith(`  ${label} `)) ?? '')?.[0] ?? ''
  return { ...service, url: originOf('API'), opsUrl: originOf('ops') }
}

/** Starts the service, and does not wait until it is ready. */
export function spawnService (t: Test, env: Record<string, string>, cwd = new URL('..', import.meta.url).pathname): Omit<Service, 'url' | 'opsUrl'> {
  const child = spawn(process.execPath, ['server.ts'], { cwd, env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  const lines: string[] = []
  const waiting = new Set<{ pattern: RegExp, resolve: (line: string) => void }>()
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', line => {
      lines.push(line)
      for (const waiter of waiting) {
        if (!waiter.pattern.test(line)) continue
        waiting.delete(waiter)
        waiter.resolve(line)
      }
    })
  }
  // 'close' comes after the end of its output.
  const exited = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return {
    child,
    lines,
    exited,
    line: pattern => {
      const said = lines.find(line => pattern.test(line))
      return said === undefined ? new Promise(resolve => waiting.add({ pattern, resolve })) : Promise.resolve(said)
    },
    token: (sub, options) => signToken({ secret, sub, ...options })
  }
}
