import { Prisma, type PrismaClient } from '#prisma'
import { UncertainCommit } from '../commit/failure.ts'

export interface DatabaseFunctionsOptions {
  /** How often Postgres has stopped waiting for its synchronous standby. Default: it never does. */
  uncertainCommits?: () => number
  /** Called with each statement that is to be prepared, before it is sent. */
  onPrepared?: (text: string, name: string) => void
}

/**
 * Calls the functions in prisma/migrations that write. Each call is one statement, and so one commit: an interactive transaction can
 * resolve although Postgres rolled back (prisma/orm#20496).
 */
export class DatabaseFunctions {
  readonly #prisma: Pick<PrismaClient, '$queryRaw'>
  readonly #options: Required<DatabaseFunctionsOptions>

  constructor (prisma: Pick<PrismaClient, '$queryRaw'>, { uncertainCommits = () => 0, onPrepared = () => {} }: DatabaseFunctionsOptions = {}) {
    this.#prisma = prisma
    this.#options = { uncertainCommits, onPrepared }
  }

  /** @throws UncertainCommit if what it committed may not survive a failover */
  async call<Result> (name: string, parameters: Prisma.Sql): Promise<Result> {
    return await this.#run(name, statementOf(name, parameters))
  }

  /** The same with a statement that each connection prepares once. For the hot path; all calls of a function must have the same text. */
  async callPrepared<Result> (name: string, parameters: Prisma.Sql): Promise<Result> {
    const statement = statementOf(name, parameters)
    this.#options.onPrepared(statement.text, name)
    return await this.#run(name, statement)
  }

  async #run<Result> (name: string, statement: Prisma.Sql): Promise<Result> {
    const before = this.#options.uncertainCommits()
    const [row] = await this.#prisma.$queryRaw<Array<{ result: Result }>>(statement)
    if (this.#options.uncertainCommits() !== before) throw new UncertainCommit()
    if (row === undefined) throw new Error(`${name} returned nothing. Whether it took effect is unknown`)
    return row.result
  }
}

function statementOf (name: string, parameters: Prisma.Sql): Prisma.Sql {
  return Prisma.sql`SELECT ${Prisma.raw(name)}(${parameters}) AS result`
}
