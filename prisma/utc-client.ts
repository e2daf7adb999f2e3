import pg from 'pg'

declare module 'pg' {
  interface ClientBase {
    /** The start-up parameters of a connection. pg does not document it; test/time-zone.test.ts fails without it. */
    getStartupConf (): Record<string, string>
  }
}

/**
 * A connection whose times are in UTC and ISO, whatever the settings of the cluster, the database and the role.
 *
 * Prisma's adapter drops the offset of a time that it reads, and writes none (prisma/orm#26786, #28629), so in any other zone its
 * times are hours off. Start-up parameters work behind PgBouncer, which keeps these two for each client. It refuses `options`, and
 * in transaction mode `SET` reaches only one transaction.
 */
export class UtcClient extends pg.Client {
  override getStartupConf (): Record<string, string> {
    return { ...super.getStartupConf(), TimeZone: 'UTC', DateStyle: 'ISO' }
  }
}
