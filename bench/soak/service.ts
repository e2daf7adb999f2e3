import { writeSync } from 'node:fs'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { FastifyRequest } from 'fastify'
import drain from 'fastify-drain'

/**
 * The service that the soak stops. It writes each step at once into its journal, a file that outlives it:
 *   accepted <port of the client> · begun <id> · committed <id>
 */
const journal = 4
const [subject] = process.argv.slice(2)

const app = Fastify()
if (subject === 'bare') {
  process.once('SIGTERM', async () => {
    await app.close()
    process.exit()
  })
} else {
  await app.register(drain, { deadline: 5_000 })
}

app.server.on('connection', (socket: Socket) => note('accepted', String(socket.remotePort)))

let open = true
app.addHook('onClose', async () => { open = false })

app.get('/orders', transaction)
app.post('/orders', transaction)

/** Commits only while its resource is open. */
async function transaction (request: FastifyRequest): Promise<object> {
  const { id = '', ms = '0' } = request.query as { id?: string, ms?: string }
  note('begun', id)
  await sleep(Number(ms))
  if (open) note('committed', id)
  return { id }
}

function note (what: string, about: string): void {
  writeSync(journal, `${what} ${about}\n`)
}

await app.listen({ port: 0, host: '127.0.0.1' })
process.send?.({ port: (app.server.address() as AddressInfo).port })
