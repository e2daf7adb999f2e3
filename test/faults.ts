import type pg from 'pg'

/** Ends every connection that services have to this database, as a crash of Postgres does. */
export async function terminateServices (sql: pg.Client): Promise<void> {
  await sql.query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'last-orders' AND datname = current_database()")
}

/** Resolves when a statement of a service waits for a lock in this database. */
export async function serviceWaitsForLock (sql: pg.Client): Promise<void> {
  for (;;) {
    // Within a transaction, such as one that holds the lock, Postgres would repeat its first snapshot.
    await sql.query('SELECT pg_stat_clear_snapshot()')
    const { rowCount } = await sql.query("SELECT FROM pg_stat_activity WHERE application_name = 'last-orders' AND datname = current_database() AND wait_event_type = 'Lock'")
    if (rowCount !== 0) return
  }
}
