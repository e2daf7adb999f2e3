import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

interface Test {
  teardown (end: () => unknown): unknown
}

/** An answer of Prometheus: its status and its body. */
export type Answer = [status: number, body: unknown]

/**
 * Answers queries as https://prometheus.io/docs/prometheus/latest/querying/api/ documents. It is for answers that a real Prometheus
 * does not give on demand.
 *
 * @param answer returns the answer to a query; `before` counts the queries before it
 */
export async function startAnswering (
  t: Test,
  answer: (query: string, before: number) => Answer
): Promise<{ url: string, queries: string[], tokens: Array<string | undefined> }> {
  const queries: string[] = []
  const tokens: Array<string | undefined> = []
  const server = createServer((request, response) => {
    void text(request).then(body => {
      const query = new URLSearchParams(body).get('query') ?? ''
      const known = request.method === 'POST' && request.url === '/api/v1/query' && request.headers['content-type']?.startsWith('application/x-www-form-urlencoded') === true
      const [status, content] = known ? answer(query, queries.length) : [404, { status: 'error' }] as const
      queries.push(query)
      tokens.push(request.headers.authorization)
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(content))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, queries, tokens }
}

/** An instant vector: a sample for each value, as text. */
export function vector (...values: string[]): Answer {
  return [200, { status: 'success', data: { resultType: 'vector', result: values.map(value => ({ metric: {}, value: [1_763_894_000.5, value] })) } }]
}
