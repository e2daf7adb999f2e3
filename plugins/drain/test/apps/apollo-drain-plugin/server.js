import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import { ApolloServer } from '@apollo/server'
import fastifyApollo, { fastifyApolloDrainPlugin } from '@as-integrations/fastify'
import { GraphQLError } from 'graphql'
import { Pool } from '../pool.js'

const typeDefs = `
  type Order { rows: Int! }
  type Query { hello: String! }
  type Mutation { placeOrder: Order! }
`
const pool = new Pool()
const closed = () => new GraphQLError('the pool is closed', { extensions: { http: { status: 500 } } })
const resolvers = {
  Query: { hello: () => 'world' },
  Mutation: { placeOrder: () => pool.query(closed) }
}

const fastify = Fastify({ logger: true }) // drain: its last line is the report
await fastify.register(drain, { lameDuck: { min: 1_000 }, deadline: 10_000 }) // drain: before all others
fastify.addHook('onClose', async () => { await pool.end() })

// It acts on SIGTERM too: it calls fastify.close(), and raises the signal again when that is done.
const apollo = new ApolloServer({
  typeDefs,
  resolvers,
  plugins: [fastifyApolloDrainPlugin(fastify)]
})
await apollo.start()
await fastify.register(fastifyApollo(apollo))

await fastify.listen({ port: Number(process.env.PORT ?? 8080) })
