import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import pg from 'pg'
import t, { type Test } from 'tap'
import { diff } from '../../prisma/diff.ts'
import { migrate } from '../../prisma/migrate.ts'
import { createTestDatabase } from '../postgres.ts'
import { start } from './program.ts'

const table = `
  CREATE TYPE "kind" AS ENUM ('ale', 'stout');
  CREATE TABLE "drinks" ("id" BIGINT NOT NULL, "name" TEXT NOT NULL, "kind" "kind" NOT NULL,
    CONSTRAINT "drinks_pkey" PRIMARY KEY ("id"));`

/** That table in a schema, with more fields and attributes. */
const model = (more = '') => `
  datasource db {
    provider = "postgresql"
  }
  enum Kind {
    ale
    stout
    @@map("kind")
  }
  model Drink {
    id   BigInt @id
    name String
    kind Kind
    ${more}
    @@map("drinks")
  }`

t.test("the repository's migrations make what its schema says", async t => {
  const { url } = await createTestDatabase(t, { empty: true })
  const directory = t.testdir({})
  cpSync(join(import.meta.dirname, '../../prisma/migrations'), directory, { recursive: true })
  const file = await diff({ url, name: 'nothing', directory })
  t.equal(file && readFileSync(file, 'utf8'), undefined)
})

t.test('db:diff writes what the migrations lack as the next migration, and then finds no difference', async t => {
  const { url, directory, schema, names } = await prepare(t, { '20260101000000_drinks': table }, model('strength Int?'))
  const file = await diff({ url, directory, schema, name: 'add_strength' })
  t.match(basename(dirname(file ?? '')), /^\d{14}_add_strength$/)
  t.equal(readFileSync(file ?? '', 'utf8'), '-- AlterTable\nALTER TABLE "drinks" ADD COLUMN     "strength" INTEGER;\n')

  t.same((await migrate({ url, directory })).applied, names())
  t.equal(await diff({ url, directory, schema, name: 'again' }), undefined)
  t.equal(names().length, 2, 'nothing is written without a difference')
})

t.test('the first migration of an empty folder is the whole schema', async t => {
  const { url, directory, schema, names } = await prepare(t, {}, model())
  const file = await diff({ url, directory, schema, name: 'first' })
  t.match(readFileSync(file ?? '', 'utf8'), /CREATE TYPE "kind"[^]*CREATE TABLE "drinks"/)
  t.match(readFileSync(join(directory, 'migration_lock.toml'), 'utf8'), /^provider = "postgresql"$/m)
  t.same((await migrate({ url, directory })).applied, names())
})

t.test('db:diff does not drop what was written by hand because the schema cannot express it', async t => {
  const { url, directory, schema } = await prepare(t, {
    '20260101000000_drinks': table,
    '20260102000000_by_hand': `
      CREATE INDEX "drinks_partial" ON "drinks" ("name") WHERE kind = 'ale';
      CREATE UNIQUE INDEX "drinks_unique_partial" ON "drinks" ("name") WHERE kind = 'stout';
      CREATE INDEX "drinks_covering" ON "drinks" ("kind") INCLUDE ("name");
      CREATE INDEX "drinks_expression" ON "drinks" (lower("name"));
      CREATE INDEX "drinks_nulls" ON "drinks" ("name" DESC NULLS LAST);
      ALTER TABLE "drinks" ADD CONSTRAINT "named" CHECK (name <> '');
      CREATE SEQUENCE "rounds";
      CREATE FUNCTION bell() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; RETURN 'ding'; END $$;
      CREATE TRIGGER "suppress" BEFORE UPDATE ON "drinks" FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();`
  }, model('strength Int?'))
  t.equal(readFileSync(await diff({ url, directory, schema, name: 'add_strength' }) ?? '', 'utf8'), `\
-- Keeps index "drinks_covering": the schema cannot describe all of it. To remove it, drop it here.
-- Keeps index "drinks_nulls": the schema cannot describe all of it. To remove it, drop it here.

-- AlterTable
ALTER TABLE "drinks" ADD COLUMN     "strength" INTEGER;
`)
  t.equal(await diff({ url, directory, schema, name: 'again' }), undefined, 'it is no difference by itself')
})

t.test('db:diff drops an index that the schema can express and does not have', async t => {
  const { url, directory, schema } = await prepare(t, {
    '20260101000000_drinks': `${table} CREATE INDEX "drinks_name_idx" ON "drinks" ("name");`
  }, model())
  t.equal(readFileSync(await diff({ url, directory, schema, name: 'no_index' }) ?? '', 'utf8'),
    '-- DropIndex\nDROP INDEX "drinks_name_idx";\n')
})

t.test('a migration that loses data says so', async t => {
  const { url, directory, schema } = await prepare(t, {
    '20260101000000_drinks': `${table} ALTER TABLE "drinks" ADD COLUMN "strength" INTEGER;`
  }, model())
  t.match(readFileSync(await diff({ url, directory, schema, name: 'weaker' }) ?? '', 'utf8'),
    /^-- Drops a table or a column, with all its data\.\n\n-- AlterTable/)
})

t.test('the next migration comes after the last, whatever the clock says', async t => {
  const { url, directory, schema, names } = await prepare(t, { '29990101000000_drinks': table }, model('strength Int?'))
  await diff({ url, directory, schema, name: 'add_strength' })
  t.same(names(), ['29990101000000_drinks', '29990101000001_add_strength'])
})

t.test('db:diff refuses a bad name, and writes nothing', async t => {
  const { url, directory, schema, names } = await prepare(t, {}, model())
  for (const name of ['', '../up', 'a b', 'Ä', '-x', '1st', 'a/b', 'x'.repeat(201)]) {
    await t.rejects(diff({ url, directory, schema, name }), { code: 'bad-name', message: /Nothing was written/ }, name)
  }
  t.same(names(), [])
  const { code, output } = await start(t, '../../prisma/diff.ts', []).exit
  t.equal(code, 1)
  t.match(output, /^"" is not a name for a migration\. .*npm run db:diff -- add_order_note.*\n$/)
})

t.test('db:diff reports a fault in a migration or in the schema, and leaves no database behind', async t => {
  const { url, directory, schema, names } = await prepare(t, { '20260101000000_drinks': 'CREATE TABEL x ();' }, model())
  await t.rejects(diff({ url, directory, schema, name: 'x' }), { message: /20260101000000_drinks[^]*syntax error at or near "TABEL"/ })
  writeFileSync(join(directory, '20260101000000_drinks/migration.sql'), table)
  writeFileSync(schema, 'model {')
  await t.rejects(diff({ url, directory, schema, name: 'x' }), { message: /schema.prisma/ })
  t.same((await databases(url)).filter(name => name.startsWith(`diff_${process.pid}_`)), [])
  t.same(names(), ['20260101000000_drinks'])
})

async function prepare (t: Test, scripts: Record<string, string>, model: string) {
  const { url } = await createTestDatabase(t, { empty: true })
  const root = t.testdir({
    'schema.prisma': model,
    migrations: Object.fromEntries(Object.entries(scripts).map(([name, script]) => [name, { 'migration.sql': script }]))
  })
  const directory = join(root, 'migrations')
  return {
    url,
    directory,
    schema: join(root, 'schema.prisma'),
    names: () => readdirSync(directory).filter(name => name !== 'migration_lock.toml').sort()
  }
}

async function databases (url: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<{ datname: string }>('SELECT datname FROM pg_database')).rows.map(row => row.datname)
  } finally {
    await client.end()
  }
}
