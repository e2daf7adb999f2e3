import type pg from 'pg'

/** One record of `_prisma_migrations`, which is Prisma's own format. */
export interface Applied {
  id: string
  name: string
  checksum: string
  state: 'finished' | 'unfinished' | 'rolled back'
  /** Why it failed, or what this program left to say how it runs; see ONE_TRANSACTION. */
  logs: string | null
}

/**
 * Left in `logs` of a record while its script runs as one transaction whose last statement finishes the record. Such
 * a record that is unfinished, with no session at work, tells that the script was rolled back.
 */
export const ONE_TRANSACTION = 'last-orders: the script and the end of this record are one transaction'

/** The records, in the order in which they were begun; none where nothing was ever migrated. */
export async function readHistory (pool: pg.Pool): Promise<Applied[]> {
  // Asked first, as an error would cost the pool its session, and the session the lock.
  const { rows: [table] } = await pool.query<{ exists: boolean }>(
    "select to_regclass('_prisma_migrations') is not null as exists")
  if (table?.exists !== true) return []
  const { rows } = await pool.query<Applied>(`
    select id, migration_name as name, checksum, logs,
      case when rolled_back_at is not null then 'rolled back'
           when finished_at is not null then 'finished'
           else 'unfinished' end as state
    from _prisma_migrations order by started_at`)
  return rows
}

export function unfinished (history: readonly Applied[]): Applied[] {
  return history.filter(row => row.state === 'unfinished')
}
