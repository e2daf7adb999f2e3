import { hasSqlDetails, parse, type AlterTableCmd, type ColumnDef, type Constraint, type CreateStmt, type Node, type RawStmt } from 'libpg-query'
import { isTransaction } from './migration-files.ts'

/** A statement that would break the previous version, which still serves while the migration runs. */
export interface Fault {
  /** From 1. */
  line: number
  /** How it breaks that version. */
  why: string
  /** The same change in steps that break nothing. */
  instead: string
  /** The author's reason above the statement, `-- safe-because: …`; undefined: none, so the statement is refused. */
  safeBecause: string | undefined
}

/**
 * Finds what would break the previous version, which uses the same database until it is replaced. Reads the script with
 * Postgres's own parser. Refuses every statement that is not known to be harmless. A table that the same migration creates is
 * not in use yet.
 */
export async function faultsOf (script: string): Promise<Fault[]> {
  let statements: Statement[]
  try {
    statements = statementsOf(Buffer.from(script), (await parse(script)).stmts ?? [])
  } catch (error) {
    if (!hasSqlDetails(error)) throw error
    const before = script.slice(0, error.sqlDetails?.cursorPosition ?? 0)
    return [{ line: before.split('\n').length, why: `Postgres cannot read it: ${error.message}.`, instead: 'Correct it.', safeBecause: undefined }]
  }

  const made = new Set(statements.flatMap(({ node }) => 'CreateStmt' in node ? [node.CreateStmt.relation?.relname] : []))
  const isMade = (table: string | undefined): boolean => made.has(table)
  const isAlone = statements.length === 1 && !isTransaction(script)
  const faults: Fault[] = []
  let mayWaitForLocks = true

  for (const { node, line, safeBecause } of statements) {
    if (!isTransaction(script) && !isConcurrent(node)) faults.push({ line, ...rules.outside, safeBecause })
    if (setsLockTimeout(node)) mayWaitForLocks = false
    for (const rule of brokenRules(node, isMade, isAlone)) faults.push({ line, ...rule, safeBecause })
    // Accepts no reason for this fault: one line fixes it.
    if (mayWaitForLocks && locks(node, isMade)) {
      faults.push({ line, ...rules.unboundedLock, safeBecause: undefined })
      mayWaitForLocks = false
    }
  }
  return faults
}

function isConcurrent (node: Node): boolean {
  return ('IndexStmt' in node && node.IndexStmt.concurrent === true) || ('DropStmt' in node && node.DropStmt.concurrent === true)
}

interface Statement {
  node: Node
  line: number
  safeBecause: string | undefined
}

/** The parser's positions are in bytes, and exclude comments before a statement. */
function statementsOf (script: Buffer, raw: RawStmt[]): Statement[] {
  let end = 0
  return raw.flatMap(({ stmt: node, stmt_location: start = 0, stmt_len: length = script.length - start }) => {
    const above = script.toString('utf8', end, start)
    end = start + length
    if (node === undefined) return []
    const reason = /^\s*-- safe-because:[ \t]*(\S.*)$/m.exec(above)?.[1]
    return [{ node, line: script.toString('utf8', 0, start).split('\n').length, safeBecause: reason }]
  })
}

type Rule = Pick<Fault, 'why' | 'instead'>

const rules = {
  drop: { why: 'The previous version still uses what is dropped here.', instead: 'Release a version that does not use it, and drop it in the release after.' },
  dropColumn: { why: 'The previous version still reads and writes this column.', instead: 'Make the column nullable or give it a default. Release a version that does not use it, and drop it in the release after.' },
  rename: { why: 'The previous version knows the old name only.', instead: 'Add the new one beside the old, write both, fill the new one in batches, read it, and drop the old one in the release after.' },
  type: { why: 'The table is rewritten while nobody can use it, and the previous version expects the old type.', instead: 'Add a column of the new type, write both, fill the new one in batches, read it, and drop the old one in the release after.' },
  setNotNull: { why: 'The previous version may still write NULL, and Postgres reads the whole table while nobody can use it.', instead: 'Add CHECK (… IS NOT NULL) NOT VALID once no version writes NULL, VALIDATE it in a migration of its own, then SET NOT NULL, which then reads no rows.' },
  dropNotNull: { why: 'The previous version cannot read the NULL that this allows.', instead: 'Write no NULL before that version is gone.' },
  dropDefault: { why: 'The previous version may leave the column out and rely on its default.', instead: 'Drop it in the release after the one that always writes the column.' },
  dropConstraint: { why: 'An ON CONFLICT of the previous version fails without its unique constraint. Without a check, that version may meet values that it does not expect.', instead: 'Drop it in the release after the one that does not need it.' },
  notNullWithoutDefault: { why: 'The previous version does not know the column and writes no value for it.', instead: 'Add it nullable, or with a constant default.' },
  rewrite: { why: 'Only a constant default leaves the rows as they are. Postgres writes others into each row while nobody can use the table.', instead: 'Add the column without it, SET DEFAULT for new rows, and fill the old rows in batches.' },
  columnConstraint: { why: 'The constraint is checked on every row while nobody can write to the table.', instead: 'Add the column alone; then the constraint NOT VALID, and VALIDATE it in a migration of its own.' },
  constraintScan: { why: 'The constraint is checked on every row while nobody can write to the table.', instead: 'Add it NOT VALID, and VALIDATE it in a migration of its own.' },
  constraintBinds: { why: 'From now on, what the previous version writes must satisfy it too.', instead: 'Add it in the release after the one that satisfies it.' },
  constraintIndex: { why: 'An index is built while nobody can write to the table.', instead: 'CREATE UNIQUE INDEX CONCURRENTLY in a migration of its own, then ADD CONSTRAINT … USING INDEX.' },
  index: { why: 'Nobody can write to the table while the index is built.', instead: 'CREATE INDEX CONCURRENTLY, alone in its migration, below the line -- no-transaction.' },
  concurrentlyAlone: { why: 'CONCURRENTLY cannot run in a transaction, and a migration is one.', instead: 'Give it a migration of its own, with no other statement, not even SET, below the line -- no-transaction.' },
  outside: { why: 'Outside of a transaction, a killed migrator leaves a part of it behind, and nobody can tell which part.', instead: 'Keep -- no-transaction for one statement with CONCURRENTLY, alone in its migration.' },
  transaction: { why: 'A migration and its record are one transaction already, and this would end it half-way.', instead: 'Remove it.' },
  uniqueBinds: { why: 'From now on, what the previous version writes must be unique too.', instead: 'Add it in the release after the one that writes only unique values.' },
  dropIndex: { why: 'An ON CONFLICT of the previous version fails without its unique index, and other statements may get slow.', instead: 'DROP INDEX CONCURRENTLY, alone in its migration, below the line -- no-transaction, in the release after the last that uses it.' },
  enumValue: { why: 'The previous version cannot read rows with a value that it does not know.', instead: 'Do not write the value before that version is gone.' },
  rows: { why: 'The rows stay locked until the whole migration has ended, and the previous version waits for them.', instead: 'Change them in batches outside the migrations, each batch in a transaction of its own.' },
  trigger: { why: 'It runs, and can fail, in the writes of the previous version.', instead: 'Add it in the release after the one that is ready for it.' },
  unknown: { why: 'This check does not know what the statement does to the previous version.', instead: 'Find out, and give the reason above the statement if it is safe.' },
  unboundedLock: { why: 'While this waits for its lock, every later statement on the table waits too, for as long as the oldest transaction takes.', instead: "Begin the migration with SET lock_timeout = '1s'. If it gives up, Postgres takes all of it back, and it can run again." }
} satisfies Record<string, Rule>

function brokenRules (node: Node, isMade: (table: string | undefined) => boolean, isAlone: boolean): Rule[] {
  // A partition, or a child: the parent is in use.
  if ('CreateStmt' in node && node.CreateStmt.inhRelations !== undefined) return [rules.unknown]
  if ('AlterTableStmt' in node) {
    const { relation, cmds = [] } = node.AlterTableStmt
    if (isMade(relation?.relname)) return []
    return cmds.flatMap(cmd => 'AlterTableCmd' in cmd ? alterationRules(cmd.AlterTableCmd) : [rules.unknown])
  }
  if ('IndexStmt' in node) {
    const { relation, concurrent = false, unique = false } = node.IndexStmt
    if (isMade(relation?.relname) && !concurrent) return []
    return [
      ...!concurrent ? [rules.index] : isAlone ? [] : [rules.concurrentlyAlone],
      ...unique ? [rules.uniqueBinds] : []
    ]
  }
  if ('DropStmt' in node) return [node.DropStmt.removeType === 'OBJECT_INDEX' ? rules.dropIndex : rules.drop]
  if ('RenameStmt' in node) return [rules.rename]
  if ('AlterEnumStmt' in node) return [node.AlterEnumStmt.oldVal === undefined ? rules.enumValue : rules.rename]
  if ('UpdateStmt' in node) return isMade(node.UpdateStmt.relation?.relname) ? [] : [rules.rows]
  if ('DeleteStmt' in node) return isMade(node.DeleteStmt.relation?.relname) ? [] : [rules.rows]
  if ('InsertStmt' in node && node.InsertStmt.onConflictClause?.action === 'ONCONFLICT_UPDATE') return [rules.rows]
  if ('TruncateStmt' in node) return [rules.drop]
  if ('TransactionStmt' in node) return [rules.transaction]
  if ('CreateTrigStmt' in node) return isMade(node.CreateTrigStmt.relation?.relname) ? [] : [rules.trigger]
  if ('GrantStmt' in node) return node.GrantStmt.is_grant === true ? [] : [rules.drop]
  return Object.keys(node).every(kind => harmless.has(kind)) ? [] : [rules.unknown]
}

/**
 * Statements that only add, and take no lock that others wait for. CREATE OR REPLACE FUNCTION is one of them, although the
 * previous version calls the new function from then on: Postgres refuses another return type.
 */
const harmless = new Set([
  'CreateStmt', 'CreateFunctionStmt', 'CreateEnumStmt', 'CreateDomainStmt', 'CompositeTypeStmt', 'CreateSeqStmt', 'CreateSchemaStmt',
  'CreateExtensionStmt', 'ViewStmt', 'CommentStmt', 'InsertStmt', 'VariableSetStmt'
])

function alterationRules ({ subtype, def }: AlterTableCmd): Rule[] {
  switch (subtype) {
    case 'AT_AddColumn': return def !== undefined && 'ColumnDef' in def ? newColumnRules(def.ColumnDef) : [rules.unknown]
    case 'AT_AddConstraint': return def !== undefined && 'Constraint' in def ? newConstraintRules(def.Constraint) : [rules.unknown]
    case 'AT_ColumnDefault': return def === undefined ? [rules.dropDefault] : []
    case 'AT_DropColumn': return [rules.dropColumn]
    case 'AT_AlterColumnType': return [rules.type]
    case 'AT_SetNotNull': return [rules.setNotNull]
    case 'AT_DropNotNull': return [rules.dropNotNull]
    case 'AT_DropConstraint': return [rules.dropConstraint]
    case 'AT_ValidateConstraint':
    case 'AT_SetStatistics':
    case 'AT_SetRelOptions': return []
    default: return [rules.unknown]
  }
}

function newColumnRules ({ constraints = [] }: ColumnDef): Rule[] {
  const found = constraints.flatMap(node => 'Constraint' in node ? [node.Constraint] : [])
  const defaultValue = found.find(({ contype }) => contype === 'CONSTR_DEFAULT')?.raw_expr
  return found.flatMap(({ contype }) => {
    switch (contype) {
      case 'CONSTR_NULL': return []
      case 'CONSTR_DEFAULT': return isConstant(defaultValue) ? [] : [rules.rewrite]
      case 'CONSTR_NOTNULL': return defaultValue === undefined ? [rules.notNullWithoutDefault] : []
      case 'CONSTR_IDENTITY':
      case 'CONSTR_GENERATED': return [rules.rewrite]
      default: return [rules.columnConstraint]
    }
  })
}

function newConstraintRules ({ contype, skip_validation: isNotValid = false, indexname }: Constraint): Rule[] {
  if (contype === 'CONSTR_CHECK' || contype === 'CONSTR_FOREIGN' || contype === 'CONSTR_NOTNULL') return [isNotValid ? rules.constraintBinds : rules.constraintScan]
  return [indexname === undefined ? rules.constraintIndex : rules.constraintBinds]
}

/** Postgres evaluates these once, when it adds the column: literals, casts of literals, and the time. */
function isConstant (value: Node | undefined): boolean {
  if (value === undefined) return false
  if ('TypeCast' in value) return isConstant(value.TypeCast.arg)
  return 'A_Const' in value || 'SQLValueFunction' in value
}

/** Whether it takes a lock that conflicts with writes to a table in use. */
function locks (node: Node, isMade: (table: string | undefined) => boolean): boolean {
  if ('AlterTableStmt' in node) return !isMade(node.AlterTableStmt.relation?.relname)
  if ('IndexStmt' in node) return node.IndexStmt.concurrent !== true && !isMade(node.IndexStmt.relation?.relname)
  if ('CreateTrigStmt' in node) return !isMade(node.CreateTrigStmt.relation?.relname)
  if ('DropStmt' in node) return node.DropStmt.concurrent !== true
  // A foreign key locks the table that it refers to.
  if ('CreateStmt' in node) return tablesReferredToBy(node.CreateStmt).some(table => !isMade(table))
  return 'RenameStmt' in node || 'TruncateStmt' in node
}

function tablesReferredToBy ({ tableElts = [] }: CreateStmt): string[] {
  const constraints = tableElts.flatMap(node => 'ColumnDef' in node ? node.ColumnDef.constraints ?? [] : [node])
  return constraints.flatMap(node => 'Constraint' in node ? node.Constraint.pktable?.relname ?? [] : [])
}

/** 0 does not count: it means no timeout. */
function setsLockTimeout (node: Node): boolean {
  if (!('VariableSetStmt' in node) || node.VariableSetStmt.name !== 'lock_timeout') return false
  const [value] = node.VariableSetStmt.args ?? []
  if (value === undefined || !('A_Const' in value)) return false
  const { ival, sval } = value.A_Const
  return parseFloat(sval?.sval ?? String(ival?.ival ?? 0)) > 0
}
