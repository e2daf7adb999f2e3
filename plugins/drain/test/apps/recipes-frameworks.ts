import cliJavaScript from './fastify-cli-js/package.json' with { type: 'json' }
import cliTypeScript from './fastify-cli-ts/package.json' with { type: 'json' }
import nest from './nest/package.json' with { type: 'json' }
import type { Recipe } from './recipe.ts'
import { serverSentEvents, together, webSocket } from './subscriptions.ts'

const headers = { 'content-type': 'application/json' }
const order = { method: 'POST', headers, body: '{}' }
const mutation = { method: 'POST', headers, body: JSON.stringify({ query: 'mutation { placeOrder { rows } }' }) }

/** Each has a lame duck of a second, so that the judge notices one that is cut short. */
export const frameworkRecipes: readonly Recipe[] = [
  {
    name: 'fastify-cli-js',
    title: '`fastify generate`',
    command: script(cliJavaScript.scripts.start),
    path: '/orders',
    ready: '/',
    options: { request: order },
    marked: ['app.js'],
    lameDuck: 1_000
  },
  {
    name: 'fastify-cli-ts',
    title: '`fastify generate --lang=ts`',
    build: ['tsc'],
    command: script(cliTypeScript.scripts.start),
    path: '/orders',
    ready: '/',
    options: { request: order },
    marked: ['src/app.ts'],
    lameDuck: 1_000
  },
  {
    name: 'nest',
    title: 'NestJS',
    build: ['tsc', '-p', 'tsconfig.build.json'],
    command: script(nest.scripts['start:prod']),
    path: '/orders',
    ready: '/',
    options: { request: order },
    marked: ['src/main.ts'],
    lameDuck: 1_000,
    after: ({ output }) => output.some(line => line.includes('the pool is closed')) ? [] : ['onModuleDestroy() was not called.']
  },
  {
    name: 'apollo',
    title: 'Apollo Server',
    command: ['node', 'server.js'],
    path: '/graphql',
    ready: '/graphql?query={hello}',
    options: { request: mutation },
    marked: ['server.js'],
    lameDuck: 1_000
  },
  {
    name: 'apollo-drain-plugin',
    title: 'Apollo Server, which acts on signals too',
    command: ['node', 'server.js'],
    path: '/graphql',
    ready: '/graphql?query={hello}',
    options: { request: mutation },
    marked: ['server.js'],
    lameDuck: 1_000
  },
  {
    name: 'trpc',
    title: 'tRPC',
    build: ['tsc'],
    command: ['node', 'server.ts'],
    path: '/trpc/placeOrder',
    ready: '/',
    options: { request: { method: 'POST', headers, body: JSON.stringify({ reference: 'A-1' }) } },
    marked: ['server.ts', 'router.ts'],
    lameDuck: 1_000,
    beside: origin => together(
      serverSentEvents(`${origin}/trpc/placed`, /^event: (return|serialized-error)/m),
      webSocket(`${origin}/trpc`, {
        says: [{ id: 1, method: 'subscription', params: { path: 'placed' } }],
        event: /"type":"data"/,
        over: /"type":"stopped"|"error":/
      })
    )
  },
  {
    name: 'mercurius',
    title: 'mercurius',
    command: ['node', 'server.js'],
    path: '/graphql',
    ready: '/graphql?query={hello}',
    options: { request: mutation },
    marked: ['server.js'],
    lameDuck: 1_000,
    beside: origin => webSocket(`${origin}/graphql`, {
      protocols: ['graphql-transport-ws'],
      says: [
        { type: 'connection_init' },
        { id: '1', type: 'subscribe', payload: { query: 'subscription { placed { rows } }' } }
      ],
      event: /"type":"next"/,
      over: /"type":"(complete|error)"/
    })
  }
]

/** The last command of a script in package.json. */
function script (text: string): [string, ...string[]] {
  const [program = '', ...args] = (text.split('&&').at(-1) ?? '').trim().split(' ')
  return [program, ...args]
}
