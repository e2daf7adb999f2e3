import fp from 'fastify-plugin'
import { ProductStore } from '../orders/product-store.ts'

declare module 'fastify' {
  interface FastifyInstance {
    /** The catalogue, with its stock. */
    products: ProductStore
  }
}

export default fp(async app => {
  app.decorate('products', new ProductStore(app.prisma, app.database.functions))
}, { name: 'products', fastify: '5.x', dependencies: ['database'] })
