import pg from 'pg'

/** A session that ends with its use. */
export async function withClient<T> (url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'verify', connectionTimeoutMillis: 10_000 })
  // Else the end of the server ends this process, before the query that fails can tell.
  client.on('error', () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}
