import pg from 'pg'

/** Rows at a time. */
const pageRows = 5_000

/** The rows of a query, page by page; at least one page, which may be empty. */
export type Pages = <Row>(query: string) => AsyncGenerator<Row[]>

/** Reads by cursors in one snapshot, so that only one page is in memory, however much is stored. */
export async function * pagesFrom<Page> (url: string, read: (pages: Pages) => AsyncGenerator<Page>): AsyncGenerator<Page> {
  const client = new pg.Client({ connectionString: url, application_name: 'verify', connectionTimeoutMillis: 10_000 })
  // Without this listener, the end of the server would end this process before the query fails.
  client.on('error', () => {})
  await client.connect()
  try {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
    yield * read(query => pagesOf(client, query))
    // An open transaction would count as rolled back, and the demo counts the rollbacks of the services.
    await client.query('COMMIT')
  } finally {
    await client.end()
  }
}

async function * pagesOf<Row> (client: pg.Client, query: string): AsyncGenerator<Row[]> {
  await client.query(`DECLARE page NO SCROLL CURSOR FOR ${query.trim().replace(/;$/, '')}`)
  for (;;) {
    const { rows } = await client.query(`FETCH ${pageRows} FROM page`)
    yield rows as Row[]
    if (rows.length < pageRows) break
  }
  await client.query('CLOSE page')
}
