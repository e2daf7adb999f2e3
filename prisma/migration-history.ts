import pg from 'pg'
import type { Migration } from './migration-files.ts'

/** The records of one schema in `_prisma_migrations`, which has Prisma's format; without those rolled back. */
export interface History {
  /** Qualified, because a migration may set the search path, and another schema on it may have such a table, too. */
  table: string
  exists: boolean
  /** Checksums by name. */
  finished: Map<string, string>
  unfinished: Unfinished[]
}

export interface Unfinished {
  id: string
  name: string
  /** Why it failed; null: not recorded. */
  logs: string | null
}

export async function readHistory (session: pg.Client, schema: string): Promise<History> {
  const table = `${pg.escapeIdentifier(schema)}._prisma_migrations`
  const { rows: [found] } = await session.query<{ exists: boolean }>('SELECT to_regclass($1) IS NOT NULL AS exists', [table])
  if (found?.exists !== true) return { table, exists: false, finished: new Map(), unfinished: [] }
  const { rows } = await session.query<Unfinished & { checksum: string, isFinished: boolean }>(`
    SELECT id, migration_name AS name, checksum, logs, finished_at IS NOT NULL AS "isFinished"
    FROM ${table} WHERE rolled_back_at IS NULL ORDER BY started_at`)
  return {
    table,
    exists: true,
    finished: new Map(rows.filter(({ isFinished }) => isFinished).map(({ name, checksum }) => [name, checksum])),
    unfinished: rows.filter(({ isFinished }) => !isFinished)
  }
}

/** Creates the table as Prisma does. */
export async function createHistory (session: pg.Client, { table }: History): Promise<void> {
  await session.query(`
    CREATE TABLE ${table} (
      id varchar(36) PRIMARY KEY NOT NULL,
      checksum varchar(64) NOT NULL,
      finished_at timestamptz,
      migration_name varchar(255) NOT NULL,
      logs text,
      rolled_back_at timestamptz,
      started_at timestamptz NOT NULL DEFAULT now(),
      applied_steps_count integer NOT NULL DEFAULT 0
    )`)
}

/** The statement that writes an unfinished record, or replaces it with a finished one. */
export function recordOf ({ table }: History, id: string, { name, checksum }: Migration, state: 'unfinished' | 'finished', steps = state === 'finished' ? 1 : 0): string {
  return `INSERT INTO ${table} (id, checksum, migration_name, finished_at, applied_steps_count)
    VALUES ('${id}', '${checksum}', ${pg.escapeLiteral(name)}, ${state === 'finished' ? 'clock_timestamp()' : 'NULL'}, ${steps})
    ON CONFLICT (id) DO UPDATE SET finished_at = excluded.finished_at, applied_steps_count = excluded.applied_steps_count`
}

export async function endRecord (session: pg.Client, { table }: History, { id }: Unfinished, as: 'applied' | 'rolled back'): Promise<void> {
  const end = as === 'applied' ? 'finished_at = now(), applied_steps_count = 1' : 'rolled_back_at = now()'
  await session.query(`UPDATE ${table} SET ${end} WHERE id = $1`, [id])
}
