// SIGTERM comes while an order is in flight. After `npm run build` in this folder it runs as it is: node example.ts
import { once } from 'node:events'
import { setTimeout as transaction } from 'node:timers/promises'
import Fastify from 'fastify'
import drain from 'fastify-drain'

const app = Fastify({ logger: true })
await app.register(drain, { lameDuck: { min: 2_000, quiet: 500, max: 10_000 }, deadline: 25_000 })

app.get('/readyz', { config: { drain: 'serve' } }, async (request, reply) => {
  return reply.code(app.drain.state === 'serving' ? 204 : 503).send()
})
app.post('/orders', async request => placeOrder(request.body))

app.drain.on('draining', ({ reason }) => console.log(`${reason}: draining`))
app.drain.on('closing', () => console.log('closing'))
app.addHook('onClose', async () => console.log('nothing is in flight: the database closes'))
process.on('exit', code => console.log(`exit code ${code}`))

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })

console.log(await order('the first'), 'while it drains')
console.log('GET /readyz:', (await fetch(`${app.listeningOrigin}/readyz`)).status)
console.log(await order('the second'), 'as well')

async function order (what: string): Promise<string> {
  const answer = await fetch(`${app.listeningOrigin}/orders`, { method: 'POST', body: what })
  return `${await answer.text()}: ${answer.status}, Connection: ${answer.headers.get('connection')},`
}

async function placeOrder (what: unknown): Promise<string> {
  console.log(`${String(what)} order begins`)
  if (app.drain.state === 'serving') {
    const signal = once(process, 'SIGTERM')
    process.kill(process.pid, 'SIGTERM')
    await signal
  }
  await transaction(300)
  return `${String(what)} order is stored`
}
