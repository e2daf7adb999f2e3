import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'

interface Test {
  teardown (end: () => void): unknown
}

/** Forwards connections, as a DNS name or a proxy that follows the primary does: `lead` moves only new ones. */
export async function startAddress (t: Test, port: number): Promise<{ port: number, lead: (port: number) => void }> {
  let target = port
  const server = createServer(client => {
    const onward = connect(target, '127.0.0.1')
    client.pipe(onward).pipe(client)
    for (const [one, other] of [[client, onward], [onward, client]] as const) {
      one.on('error', () => other.destroy())
      one.on('close', () => other.destroy())
    }
    t.teardown(() => client.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  return { port: (server.address() as AddressInfo).port, lead: to => { target = to } }
}
