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
    await query('select pg_advisory_lock($1)', [gateLock])
    return {
      open: () => query('select pg_advisory_unlock($1)', [gateLock]),
      /** Resolves when a session waits at the gate. */
      reached: async (): Promise<{ backend: number }> => {
        const deadline = Date.now() + 20_000
        for (;;) {
          if (Date.now() > deadline) throw new Error('No session reached the gate within 20 s.')
          const [waiting] = await query(`
            select pid from pg_locks where objid = $1 and not granted
               and database = (select oid from pg_database where datname = current_database())`, [gateLock])
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
    select relname as name from pg_class where relnamespace = 'public'::regnamespace union all
    select proname from pg_proc where pronamespace = 'public'::regnamespace union all
    select typname from pg_type where typnamespace = 'public'::regnamespace union all
    select conname from pg_constraint where connamespace = 'public'::regnamespace order by 1`)).map(({ name }) => name)
}
