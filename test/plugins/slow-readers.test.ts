import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { Reader } from '../../plugins/slow-readers.ts'

const ready = 1_000_000

/** The server's end of a connection on which `ready` bytes were written, and all of them given to the kernel. */
async function written (test: Test): Promise<Socket> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1').resume()
  const [socket] = await once(server, 'connection') as [Socket]
  test.teardown(() => {
    client.destroy()
    socket.destroy()
    server.close()
  })
  await new Promise(resolve => socket.write(Buffer.alloc(ready), resolve))
  return socket
}

t.test('a look in which the kernel reported too little does not make a peer too slow at the next look', async t => {
  const reader = new Reader(await written(t))
  t.equal(reader.isTooSlow(0, 600_000), false)
  // The kernel was asked before it got the last 400 kB.
  t.equal(reader.isTooSlow(1_000, 200_000), false)
  t.equal(reader.isTooSlow(2_000, 600_000), false)
})

t.test('a peer that takes nothing for five seconds is too slow', async t => {
  const reader = new Reader(await written(t))
  t.equal(reader.isTooSlow(0, 600_000), false)
  t.equal(reader.isTooSlow(4_999, 600_000), false)
  t.equal(reader.isTooSlow(5_001, 600_000), true)
})

t.test('a peer that takes more than the minimum rate is ahead by ten seconds at most', async t => {
  const reader = new Reader(await written(t))
  t.equal(reader.isTooSlow(0, 600_000), false)
  t.equal(reader.isTooSlow(1_000, 500_000), false)
  t.equal(reader.isTooSlow(11_000, 500_000), false)
  t.equal(reader.isTooSlow(11_001, 500_000), true)
})
