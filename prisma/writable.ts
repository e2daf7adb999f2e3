import { MigrationError, printable } from './migration-error.ts'
import { schemaOf } from './schema.ts'
import { UtcClient } from './utc-client.ts'

type Ask = (text: string) => Promise<unknown[]>

interface Session {
  isStandby: boolean
  isReadOnly: boolean
  timeZone: string
}

/**
 * Why this session cannot write, as a clause; undefined: it can. One round trip, which only reads.
 *
 * @throws what `ask` throws
 */
export async function whyNotWritable (ask: Ask): Promise<string | undefined> {
  const [session] = await ask(`SELECT ${sessionState}, ARRAY(
    SELECT needed.privilege || ' on ' || needed.name FROM (VALUES ${privileges.map(([name, privilege]) => `('${name}', '${privilege}')`).join(', ')}) AS needed(name, privilege)
     WHERE CASE needed.privilege WHEN 'DELETE' THEN has_table_privilege(to_regclass(needed.name), needed.privilege)
           ELSE has_any_column_privilege(to_regclass(needed.name), needed.privilege) END IS NOT TRUE
    ) AS lacking`) as [Session & { lacking: string[] }]
  if (session.lacking.length > 0 && !session.isReadOnly) return `its role lacks ${session.lacking.join(', ')}`
  return whyReadOnly(session)
}

/** The first migration has a function BEGIN ATOMIC, which PostgreSQL 14 introduced; xid8 and its functions came with 13. */
const oldestServer = 14

/**
 * Ends a start on a PostgreSQL that is too old.
 *
 * @throws MigrationError 'too-old'
 */
export async function requireServer (url: string, ask: Ask): Promise<void> {
  const [server] = await ask("SELECT current_setting('server_version_num')::integer AS number, current_setting('server_version') AS name") as [{ number: number, name: string }]
  if (server.number >= oldestServer * 10_000) return
  throw new MigrationError('too-old', `The database at ${printable(url)} is PostgreSQL ${server.name}, and the service needs ${oldestServer} or later. ` +
    'Nothing was applied or started. Upgrade that server, or let DATABASE_URL lead to a newer one; then start again.')
}

/**
 * Ends a start on a database that takes no writes, before anything else begins.
 *
 * @throws MigrationError 'too-old', 'read-only', 'no-schema', 'unreachable', 'refused'
 */
export async function requireWritable (url: string): Promise<void> {
  const client = new UtcClient({ connectionString: url, connectionTimeoutMillis: 10_000, application_name: 'last-orders' })
  client.on('error', () => {})
  try {
    await client.connect()
    const ask: Ask = async text => (await client.query<object>(text)).rows
    await requireServer(url, ask)
    // Reports a wrong schema, which would otherwise look like missing rights on every table.
    await schemaOf(client, url)
    const why = await whyNotWritable(ask)
    if (why !== undefined) throw readOnlyError(url, why)
  } catch (error) {
    throw MigrationError.from(error, url)
  } finally {
    await client.end().catch(() => {})
  }
}

/** Does the same for a migrator, without checking rights on tables: it creates them. */
export async function requireReadWrite (url: string, ask: Ask): Promise<void> {
  await requireServer(url, ask)
  const [session] = await ask(`SELECT ${sessionState}`) as [Session]
  const why = whyReadOnly(session)
  if (why !== undefined) throw readOnlyError(url, why)
}

const sessionState = 'pg_is_in_recovery() AS "isStandby", current_setting(\'transaction_read_only\') = \'on\' AS "isReadOnly", current_setting(\'TimeZone\') AS "timeZone"'

/** What the service does to its tables; a right on some of the columns suffices. */
const privileges = [
  ['orders', 'INSERT'], ['orders', 'UPDATE'], ['orders', 'DELETE'],
  ['order_items', 'INSERT'],
  ['products', 'UPDATE'],
  ['outbox', 'INSERT'], ['outbox', 'UPDATE'], ['outbox', 'DELETE'],
  ['outbox_leases', 'INSERT'], ['outbox_leases', 'UPDATE'], ['outbox_leases', 'DELETE'],
  ['outbox_retention', 'UPDATE'],
  ['payments', 'SELECT'], ['payments', 'INSERT'], ['payments', 'UPDATE'],
  ['refunds', 'SELECT'], ['refunds', 'INSERT'], ['refunds', 'UPDATE'],
  ['order_expiry', 'SELECT'],
  ['environment', 'SELECT'],
  ['order_returns', 'SELECT'], ['order_returns', 'INSERT'],
  ['webhook_endpoints', 'SELECT'], ['webhook_endpoints', 'INSERT'], ['webhook_endpoints', 'DELETE'],
  ['webhook_deliveries', 'SELECT'], ['webhook_deliveries', 'INSERT'], ['webhook_deliveries', 'UPDATE'], ['webhook_deliveries', 'DELETE'],
  ['epochs', 'SELECT'], ['epochs', 'INSERT'], ['epochs', 'UPDATE'],
  ['stops', 'INSERT'], ['stops', 'UPDATE'], ['stops', 'DELETE'],
  ['stop_totals', 'SELECT'], ['stop_totals', 'INSERT'], ['stop_totals', 'UPDATE']
] as const

function whyReadOnly ({ isStandby, isReadOnly, timeZone }: Session): string | undefined {
  if (isStandby) return 'it is a standby (in recovery)'
  if (isReadOnly) return 'its transactions are read-only (default_transaction_read_only)'
  // A pooler may drop the zone that the client asks for: times would be hours off.
  if (timeZone !== 'UTC') return `its session is in ${timeZone} although UTC was asked for, so times would be wrong`
  return undefined
}

function readOnlyError (url: string, why: string): MigrationError {
  return new MigrationError('read-only', `The database at ${printable(url)} cannot be written: ${why}. Nothing was applied or started. ` +
    'Let DATABASE_URL lead to the primary, or to a proxy that follows it, with a role that may write; then start again.')
}
