import { createDatabase } from './graphile-worker/database.ts'
import type { Database } from './graphile-worker/database.ts'
import { proxyClients } from './http-proxy/clients.ts'
import { startUpstream } from './http-proxy/upstream.ts'
import { startSink } from './opentelemetry/sink.ts'
import type { Sink } from './opentelemetry/sink.ts'
import type { Recipe } from './recipe.ts'
import { orderClients } from './socket.io/clients.ts'
import { streamClients } from './sse/clients.ts'
import { fileClients, form } from './static-compress-multipart/clients.ts'

/** Load before the signal, in ms: long enough that the other clients' work is under way at the signal. */
const loadFor = 1_000

/** Plugins that are often registered beside fastify-drain and have an end of their own. */
export const pluginRecipes: readonly Recipe[] = [
  {
    name: 'http-proxy',
    title: '`@fastify/http-proxy`',
    command: ['node', 'server.js'],
    path: '/api/slow',
    options: {
      loadFor,
      request: n => n % 3 === 0
        ? { method: 'POST', path: '/api/orders', headers: { 'content-type': 'application/json' }, body: '{"sku":"tea"}' }
        : {}
    },
    marked: ['server.js'],
    async prepare () {
      const { origin, close } = await startUpstream()
      return { env: { UPSTREAM: origin }, end: close }
    },
    beside: proxyClients
  },
  {
    name: 'static-compress-multipart',
    title: '`@fastify/static`, `compress`, `multipart`',
    command: ['node', 'server.js'],
    path: '/work',
    options: {
      loadFor,
      request: n => {
        const headers = { 'accept-encoding': 'gzip' }
        switch (n % 8) {
          case 0: return { method: 'POST', path: '/upload', ...form }
          case 1: return { path: '/files/page.html', headers }
          case 2: return { path: '/files/large.txt', headers }
          case 3: return { path: '/files/large.bin' }
          default: return { headers }
        }
      }
    },
    marked: ['server.js'],
    beside: fileClients
  },
  {
    name: 'sse',
    title: '`@fastify/sse`',
    command: ['node', 'server.js'],
    path: '/work',
    options: { loadFor },
    marked: ['server.js'],
    beside: streamClients
  },
  {
    name: 'socket.io',
    title: 'Socket.IO',
    command: ['node', 'server.js'],
    path: '/work',
    options: { loadFor },
    marked: ['server.js'],
    beside: orderClients
  },
  graphileWorker(),
  opentelemetry()
]

function graphileWorker (): Recipe {
  let database: Database
  return {
    name: 'graphile-worker',
    title: 'graphile-worker',
    command: ['node', 'server.js'],
    path: '/orders',
    ready: '/',
    options: { loadFor, request: { method: 'POST' } },
    marked: ['server.js'],
    async prepare () {
      database = await createDatabase()
      return { env: { DATABASE_URL: database.url }, end: () => database.drop() }
    },
    async after ({ statuses }) {
      const [jobs = {}] = await database.query('SELECT count(*)::int AS waiting, count(*) FILTER (WHERE locked_at IS NOT NULL)::int AS locked FROM graphile_worker.jobs')
      const [orders = {}] = await database.query(`
        SELECT count(*)::int AS stored, count(*) FILTER (WHERE confirmed = 1)::int AS confirmed,
          count(*) FILTER (WHERE begun <> confirmed)::int AS abandoned, count(*) FILTER (WHERE begun > 1)::int AS repeated
        FROM orders`)
      const seen = JSON.stringify({ ...orders, ...jobs, answered: statuses['201'] })
      return [
        ...orders['abandoned'] === 0 && jobs['locked'] === 0 ? [] : [`a job was abandoned: ${seen}`],
        ...orders['repeated'] === 0 ? [] : [`a job was begun twice: ${seen}`],
        ...Number(orders['confirmed']) > 0 ? [] : [`no job was done: ${seen}`],
        ...Number(orders['stored']) >= (statuses['201'] ?? 0) ? [] : [`an order was lost: ${seen}`],
        ...Number(orders['confirmed']) + Number(jobs['waiting']) === orders['stored'] ? [] : [`a job was lost: ${seen}`]
      ]
    }
  }
}

function opentelemetry (): Recipe {
  let sink: Sink
  return {
    name: 'opentelemetry',
    title: 'OpenTelemetry, and a pino transport',
    command: ['node', '--import', './instrumentation.js', 'server.js'],
    path: '/work',
    options: { loadFor },
    marked: ['server.js'],
    async prepare () {
      sink = await startSink()
      return { env: { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: sink.tracesUrl, OTEL_METRICS_EXPORTER: 'none', LOGS_URL: sink.logsUrl }, end: () => sink.close() }
    },
    after ({ statuses }) {
      const answered = statuses['200'] ?? 0
      return [
        ...sink.requests >= answered ? [] : [`of ${answered} requests that were answered the spans of ${sink.requests} arrived`],
        ...sink.lastLine?.includes('"drain":') === true ? [] : ['the last line that the log service got is not the report']
      ]
    }
  }
}
