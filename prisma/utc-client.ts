import pg from 'pg'

declare module 'pg' {
  interface ClientBase {
    /** The parameters that a connection begins with. pg does not document it; test/time-zone.test.ts goes red without it. */
    getStartupConf (): Record<string, string>
  }
}

/**
 * A connection whose times are in UTC and ISO, whatever the cluster, the database and the role are set to.
 *
 * Prisma's adapter takes the offset from a time that it reads and writes none (prisma/orm#26786, #28629), so in any other zone its times
 * are hours off. As start-up parameters, not by `options`, which PgBouncer refuses, and not by `SET`, which in transaction mode reaches
 * one transaction: these two are among those that PgBouncer keeps for each of its clients.
 */
export class UtcClient extends pg.Client {
  override getStartupConf (): Record<string, string> {
    return { ...super.getStartupConf(), TimeZone: 'UTC', DateStyle: 'ISO' }
  }
}
