import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Test } from 'tap'
import { createTestDatabase } from '../postgres.ts'

/** The lock by which a test holds up a migration: any number that no program uses. */
export const gateLock = 42

/** An empty database, and a folder of migrations. */
export async function prepare (t: Test, scripts: Record<string, string>) {
  const { url } = await createTestDatabase(t, { empty: true })
  const directory = t.testdir(Object.fromEntries(
    Object.entries(scripts).map(([name, script]) => [name, { 'migration.sql': script }])))
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  t.teardown(() => client.end())

  async function query (sql: string, values: unknown[] = []): Promise<Array<Record<string, unknown>>> {
    return (await client.query<Record<string, unknown>>(sql, values)).rows
  }

  async function hold () {
    await query('SELECT pg_advisory_lock($1)', [gateLock])
    return {
      open: () => query('SELECT pg_advisory_unlock($1)', [gateLock]),
      /** Resolves when a session waits at the gate. */
      reached: async (): Promise<{ backend: number }> => {
        const deadline = Date.now() + 20_000
        for (;;) {
          if (Date.now() > deadline) throw new Error('No session reached the gate within 20 s.')
          const [waiting] = await query(`
            SELECT pid FROM pg_locks WHERE objid = $1 AND NOT granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, [gateLock])
          if (waiting !== undefined) return { backend: Number(waiting.pid) }
          await delay(10)
        }
      }
    }
  }

  return { url, directory, query, hold }
}

/** The names of all objects that a migration could leave half-made. */
export async function thingsIn (query: (sql: string) => Promise<Array<Record<string, unknown>>>): Promise<unknown[]> {
  return (await query(`
    SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL
    SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL
    SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace UNION ALL
    SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1`)).map(({ name }) => name)
}
