import { join } from 'node:path'
import type { Test } from 'tap'
import { missing, Program } from '../verify/program.ts'
import { freePort } from '../verify/free-port.ts'

/** Why etcd does not run on this machine; false if it does. Debian's package is etcd-server. */
export const etcdMissing = missing('etcd', '--version') ?? false

export interface Etcd {
  /** `127.0.0.1:2379` */
  host: string
  put (key: string, value: string): Promise<void>
  /** Puts all of them at one revision. */
  putAll (pairs: Record<string, string>): Promise<void>
  delete (key: string): Promise<void>
  /** Calls the JSON gateway. */
  post (path: string, body: object): Promise<unknown>
  /** Ends it as a crash does, and keeps its data. */
  kill (): Promise<void>
  start (): Promise<void>
}

/** Starts a real etcd for the test. */
export async function startEtcd (t: Test): Promise<Etcd> {
  const directory = t.testdir()
  const [clients, peers] = [await freePort(), await freePort()]
  const url = `http://127.0.0.1:${clients}`
  const encode = (text: string): string => Buffer.from(text).toString('base64')
  let program: Program | undefined
  t.teardown(async () => { await program?.close() })
  const etcd: Etcd = {
    host: `127.0.0.1:${clients}`,
    put: async (key, value) => await etcd.putAll({ [key]: value }),
    async putAll (pairs) {
      await etcd.post('kv/txn', { success: Object.entries(pairs).map(([key, value]) => ({ request_put: { key: encode(key), value: encode(value) } })) })
    },
    async delete (key) {
      await etcd.post('kv/deleterange', { key: encode(key) })
    },
    async post (path, body) {
      const response = await fetch(`${url}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) })
      if (!response.ok) throw new Error(`etcd answered ${path} with ${response.status}: ${await response.text()}`)
      return await response.json()
    },
    async kill () {
      await program?.close()
    },
    async start () {
      program = await Program.start({
        command: 'etcd',
        args: ['--data-dir', join(directory, 'data'), '--listen-client-urls', url, '--advertise-client-urls', url, '--listen-peer-urls', `http://127.0.0.1:${peers}`, '--logger', 'zap'],
        log: join(directory, 'log')
      })
      await program.until('answer', async () => await fetch(`${url}/health`).then(({ ok }) => ok, () => false))
    }
  }
  await etcd.start()
  return etcd
}
