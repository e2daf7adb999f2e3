import { PrismaPg } from '@prisma/adapter-pg'
import {
  ColumnTypeEnum, isDriverAdapterError,
  type SqlDriverAdapter, type SqlMigrationAwareDriverAdapterFactory, type SqlQuery, type SqlResultSet
} from '@prisma/driver-adapter-utils'
import type pg from 'pg'
import { driverError } from './schema-engine.ts'

/** The type "char", of one byte, which Postgres' catalogue uses and which has nothing to do with char(n). */
const CHAR_OID = 18

/**
 * A database whose schema the engine can read. With Prisma's own adapter for Postgres it cannot: this knows no
 * "char", of which the catalogue is full. Nor would it have a shadow database: given a connection string it makes one
 * and then works in the main one. Here both are the one database, which must be a scratch one.
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

  /** As a whole: Prisma's adapter would split it at each semicolon, also within a function's body. */
  async #run (script: string): Promise<void> {
    await this.#pool.query(script).catch(error => { throw driverError(error) })
  }

  /** The same rows, with each "char" read as text and called what the engine expects. */
  async #query (adapter: SqlDriverAdapter, query: SqlQuery): Promise<SqlResultSet> {
    const { fields } = await this.#pool.query(query.sql, query.args)
    const columns = fields.map(({ name, dataTypeID }) => dataTypeID === CHAR_OID ? `"${name}"::text` : `"${name}"`)
    const inner = query.sql.trim().replace(/;$/, '')
    const result = await adapter.queryRaw({ ...query, sql: `select ${columns.join(', ')} from (${inner}) as described` })
    const columnTypes = result.columnTypes.map((type, i) =>
      fields[i]?.dataTypeID === CHAR_OID ? ColumnTypeEnum.Character : type)
    return { ...result, columnTypes }
  }
}
