import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'

interface PeerOptions {
  deadline: number
  lameDuck: { min: number, quiet: number, max: number }
  closing: () => void
  closeResources: () => Promise<void>
}

type Peer = (app: FastifyInstance, options: PeerOptions) => Promise<{ listening?: () => void }>

/** A service that one of bench/peers stops, to measure how long its exit takes. */
const [peer = ''] = process.argv.slice(2)

const app = Fastify()
const { default: stopWith } = await import(`../peers/${peer}.js`) as { default: Peer }
const { listening } = await stopWith(app, {
  deadline: 5_000,
  lameDuck: { min: 0, quiet: 0, max: 0 },
  closing: () => {},
  closeResources: async () => {}
})

app.get('/transaction', async () => {
  await sleep(100)
  return { done: true }
})

await app.listen({ port: 0, host: '127.0.0.1' })
listening?.()
process.send?.({ port: (app.server.address() as AddressInfo).port })
