import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readMigrations } from '../../prisma/migration-files.ts'
import { cloneOfRepository } from '../clone.ts'

const root = join(import.meta.dirname, '../..')

/** A migration of version N+1: the folder's name, and its script. */
export interface Step {
  name: string
  script: string
}

/**
 * Makes the next version of this repository, in which the column `reference` of the orders is called `label`. Its code differs in
 * one line of the Prisma schema. It has no further migration until `add` puts a step into its tree.
 */
export function nextVersion (t: { teardown (end: () => void): unknown }): { tree: string, add: (step: Step) => void } {
  const tree = cloneOfRepository(t)
  cpSync(join(root, 'prisma.config.ts'), join(tree, 'prisma.config.ts'))
  const schema = join(tree, 'prisma/schema.prisma')
  writeFileSync(schema, replaceOnce(readFileSync(schema, 'utf8'), /^( +reference +String\?)$/m, '$1 @map("label")'))
  execFileSync(join(root, 'node_modules/.bin/prisma'), ['generate'], { cwd: tree, stdio: 'ignore' })
  return {
    tree,
    add ({ name, script }) {
      mkdirSync(join(tree, 'prisma/migrations', name))
      writeFileSync(join(tree, 'prisma/migrations', name, 'migration.sql'), script)
    }
  }
}

/** Adds the new name and writes both: version N continues with the old one, and N+1 may begin with the new one. */
export const expand: Step = {
  name: '29990101000000_expand_label',
  script: `SET lock_timeout = '500ms';

ALTER TABLE "orders" ADD COLUMN "label" TEXT;

${placeOrdersWriting('reference, label', 'asked.reference, asked.reference')}
`
}

/** Drops the old name, once no version reads it. */
export const contract: Step = {
  name: '29990102000000_contract_reference',
  script: `SET lock_timeout = '500ms';

${placeOrdersWriting('label', 'asked.reference')}

${replaceOnce(definitionOf('order_json'), /placed\.reference/, 'placed.label')}

-- safe-because: version N+1 reads label alone, and its migration left no function that writes reference
ALTER TABLE "orders" DROP COLUMN "reference";
`
}

/** Renames in one statement, which breaks version N. */
export const rename: Step = {
  name: '29990101000000_rename_reference',
  script: `SET lock_timeout = '500ms';

ALTER TABLE "orders" RENAME COLUMN "reference" TO "label";
`
}

function placeOrdersWriting (columns: string, values: string): string {
  return replaceOnce(replaceOnce(definitionOf('place_orders'), /(INSERT INTO orders \([^)]*)\breference\b/, `$1${columns}`), /\basked\.reference\b/, values)
}

/** The function as the last migration with it defines it, as CREATE OR REPLACE. */
function definitionOf (name: string): string {
  const scripts = readMigrations().map(({ script }) => script).join('\n')
  const found = [...scripts.matchAll(new RegExp(`^CREATE (?:OR REPLACE )?(FUNCTION ${name}\\([^]*?^(?:END )?\\$\\$;)`, 'gm'))].at(-1)?.[1]
  if (found === undefined) throw new Error(`No migration defines ${name}, which version N+1 changes. Correct test/upgrade/next-version.ts.`)
  return `CREATE OR REPLACE ${found}`
}

/** @throws Error if the text has changed, so that this file must change, too */
function replaceOnce (text: string, what: RegExp, by: string): string {
  const times = [...text.matchAll(new RegExp(what, `${what.flags.replace('g', '')}g`))].length
  if (times !== 1) throw new Error(`${what} is ${times} times in the text that version N+1 changes, and should be there once. Correct test/upgrade/next-version.ts.`)
  return text.replace(what, by)
}
