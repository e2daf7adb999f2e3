import pg from 'pg'
import { withClient } from '../../../postgres/with-client.ts'
import { UserError } from '../../../user-error.ts'
import type { Target } from '../../../verify/target.ts'

/** The target, with this done in its database before the first instance starts. */
export function withSql (target: Target, change: (client: pg.Client) => Promise<void>): Target {
  return {
    ...target,
    async prepare (run) {
      await target.prepare?.(run)
      await withClient(run.directDatabaseUrl, change)
    }
  }
}

/**
 * Changes the text of a function of the database.
 *
 * @throws Error if a part is not found: an unchanged function would be no control
 */
export async function changeFunction (client: pg.Client, name: string, changes: ReadonlyArray<readonly [part: string, by: string]>): Promise<void> {
  // The function of the previous version, with fewer arguments, stands beside that of this version.
  const { rows: [row] } = await client.query<{ text: string }>('SELECT pg_get_functiondef(oid) AS text FROM pg_proc WHERE proname = $1 ORDER BY pronargs DESC LIMIT 1', [name])
  let text = row?.text ?? ''
  for (const [part, by] of changes) {
    if (!text.includes(part)) throw new UserError(`The function ${name} has no "${part}" to be broken, and nothing was proved. It was changed in a migration; change the control with it.`)
    text = text.replace(part, () => by)
  }
  await client.query(text)
}

/** The target, with a trigger for each inserted row. */
export function withTrigger (target: Target, table: 'orders' | 'outbox', time: 'BEFORE' | 'AFTER', body: string): Target {
  return withSql(target, async client => {
    await client.query(`CREATE FUNCTION saboteur_of_${table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body} END $$`)
    await client.query(`CREATE TRIGGER saboteur ${time} INSERT ON ${table} FOR EACH ROW EXECUTE FUNCTION saboteur_of_${table}()`)
  })
}

/** The condition that `column` is this customer; for null it is always true. */
export function isCustomer (column: string, customer: string | null): string {
  return customer === null ? 'true' : `${column} = ${pg.escapeLiteral(customer)}`
}
