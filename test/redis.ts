import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../verify/free-port.ts'
import { missing, Program } from '../verify/program.ts'

interface Test {
  teardown (end: () => Promise<void>): unknown
}

/** Why Redis does not run on this machine; false if it does. */
export const redisMissing = missing('redis-server', '--version') ?? false

export interface Redis {
  url: string
  /** Ends it by SIGKILL. */
  kill (): Promise<void>
  /** Starts it on the same port, empty. */
  start (): Promise<void>
  /** Stops it by SIGSTOP: it takes connections, and does not answer. */
  hang (): void
}

/** Starts a Redis for the test, which keeps its data in memory only. */
export async function startRedis (t: Test): Promise<Redis> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'last-orders-redis-'))
  let program: Program | undefined
  const redis: Redis = {
    url: `redis://127.0.0.1:${port}`,
    async kill () {
      await program?.close()
    },
    async start () {
      program = await Program.start({ command: 'redis-server', args: ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--save', '', '--appendonly', 'no'], log: join(directory, 'log') })
      await program.until('answer', async () => await isAnswering(port))
    },
    hang () {
      program?.signal('SIGSTOP')
    }
  }
  t.teardown(async () => {
    await redis.kill()
    rmSync(directory, { recursive: true, force: true })
  })
  await redis.start()
  return redis
}

async function isAnswering (port: number): Promise<boolean> {
  return await new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => { socket.write('PING\r\n') })
    socket.on('data', data => {
      socket.destroy()
      resolve(String(data).startsWith('+PONG'))
    })
    socket.on('error', () => resolve(false))
  })
}
