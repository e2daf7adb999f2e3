import { PrismaPg } from '@prisma/adapter-pg'
import {
  ColumnTypeEnum, isDriverAdapterError,
  type SqlDriverAdapter, type SqlMigrationAwareDriverAdapterFactory, type SqlQuery, type SqlResultSet
} from '@prisma/driver-adapter-utils'
import type pg from 'pg'
import { driverError } from './schema-engine.ts'

/** The one-byte type "char" of Postgres' catalogue, which is unrelated to char(n). */
const charOid = 18

/**
 * A database whose schema the engine can read. Through Prisma's own adapter for Postgres it cannot, because the adapter does
 * not know the type "char", which the catalogue uses throughout. Nor does the adapter use a shadow database: it creates one
 * and then works in the main one. Here both are the same database, which must be a scratch one.
 */
export class DescribedDatabase implements SqlMigrationAwareDriverAdapterFactory {
  readonly provider = 'postgres'
  readonly adapterName = '@prisma/adapter-pg'
  readonly #pool: pg.Pool

  constructor (pool: pg.Pool) {
    this.#pool = pool
  }

  async connect (): Promise<SqlDriverAdapter> {
    const adapter = await new PrismaPg(this.#pool).connect()
    return {
      provider: this.provider,
      adapterName: this.adapterName,
      executeScript: script => this.#run(script),
      queryRaw: query => adapter.queryRaw(query).catch(error => {
        if (isDriverAdapterError(error) && error.cause.kind === 'UnsupportedNativeDataType') return this.#query(adapter, query)
        throw error
      }),
      executeRaw: query => adapter.executeRaw(query),
      startTransaction: isolation => adapter.startTransaction(isolation),
      getConnectionInfo: () => adapter.getConnectionInfo(),
      dispose: () => adapter.dispose()
    }
  }

  async connectToShadowDb (): Promise<SqlDriverAdapter> {
    return await this.connect()
  }

  /** Runs it as a whole: Prisma's adapter would split it at each semicolon, even within a function's body. */
  async #run (script: string): Promise<void> {
    await this.#pool.query(script).catch(error => { throw driverError(error) })
  }

  /** The same rows, with each "char" read as text and typed as the engine expects. */
  async #query (adapter: SqlDriverAdapter, query: SqlQuery): Promise<SqlResultSet> {
    const { fields } = await this.#pool.query(query.sql, query.args)
    const columns = fields.map(({ name, dataTypeID }) => dataTypeID === charOid ? `"${name}"::text` : `"${name}"`)
    const inner = query.sql.trim().replace(/;$/, '')
    const result = await adapter.queryRaw({ ...query, sql: `SELECT ${columns.join(', ')} FROM (${inner}) AS described` })
    const columnTypes = result.columnTypes.map((type, i) =>
      fields[i]?.dataTypeID === charOid ? ColumnTypeEnum.Character : type)
    return { ...result, columnTypes }
  }
}
