import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import mercurius from 'mercurius'
import { Pool } from '../pool.js'

const schema = `
  type Order { rows: Int! }
  type Query { hello: String! }
  type Mutation { placeOrder: Order! }
  type Subscription { placed: Order! }
`
const pool = new Pool()
const closed = () => new mercurius.ErrorWithProps('the pool is closed', {}, 500)
const resolvers = {
  Query: { hello: () => 'world' },
  Mutation: {
    async placeOrder (_, args, { pubsub }) {
      const placed = await pool.query(closed)
      pubsub.publish({ topic: 'placed', payload: { placed } })
      return placed
    }
  },
  Subscription: {
    placed: { subscribe: (_, args, { pubsub }) => pubsub.subscribe('placed') }
  }
}

const app = Fastify({ logger: true }) // drain: its last line is the report
await app.register(drain, { lameDuck: { min: 1_000 }, deadline: 10_000 }) // drain: before all others
app.addHook('onClose', async () => { await pool.end() })

app.register(mercurius, { schema, resolvers, subscription: true })

await app.listen({ port: Number(process.env.PORT ?? 3000) })
