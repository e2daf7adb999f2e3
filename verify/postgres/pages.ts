import pg from 'pg'

/** Rows at a time. */
const pageRows = 5_000

/** The rows of a query, page by page; at least one page, if an empty one. */
export type Pages = <Row>(query: string) => AsyncGenerator<Row[]>

/** Reads in one snapshot, by cursors: however much is stored, no more than a page of it is in memory. */
export async function * pagesFrom<Page> (url: string, read: (pages: Pages) => AsyncGenerator<Page>): AsyncGenerator<Page> {
  const client = new pg.Client({ connectionString: url, application_name: 'verify', connectionTimeoutMillis: 10_000 })
  // Else the end of the server ends this process, before the query that fails can tell.
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('begin isolation level repeatable read read only')
    yield * read(query => pagesOf(client, query))
    // One that is left open counts as rolled back, and the demo counts those of the services.
    await client.query('commit')
  } finally {
    await client.end()
  }
}

async function * pagesOf<Row> (client: pg.Client, query: string): AsyncGenerator<Row[]> {
  await client.query(`declare page no scroll cursor for ${query.trim().replace(/;$/, '')}`)
  for (;;) {
    const { rows } = await client.query(`fetch ${pageRows} from page`)
    yield rows as Row[]
    if (rows.length < pageRows) break
  }
  await client.query('close page')
}
