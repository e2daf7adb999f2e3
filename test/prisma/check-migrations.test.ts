import { execFile, execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { checkMigrations } from '../../prisma/check-migrations.ts'
import { migrate } from '../../prisma/migrate.ts'
import { faultsOf } from '../../prisma/rolling-rules.ts'
import { cloneOfRepository } from '../clone.ts'
import { createTestDatabase } from '../postgres.ts'

const run = promisify(execFile)

const breaking: Array<[sql: string, why: RegExp]> = [
  ['DROP TABLE orders', /still uses what is dropped/],
  ['DROP FUNCTION place_orders(json, integer)', /still uses what is dropped/],
  ['TRUNCATE orders', /still uses/],
  ['REVOKE SELECT ON orders FROM PUBLIC', /still uses/],
  ['ALTER TABLE orders DROP COLUMN reference', /still reads and writes this column/],
  ['ALTER TABLE orders RENAME COLUMN reference TO label', /knows the old name only/],
  ['ALTER TABLE orders RENAME TO purchases', /knows the old name only/],
  ["ALTER TYPE order_status RENAME VALUE 'paid' TO 'settled'", /knows the old name only/],
  ["ALTER TYPE order_status ADD VALUE 'returned'", /cannot read rows with a value/],
  ['ALTER TABLE orders ALTER COLUMN version TYPE bigint', /rewritten/],
  ['ALTER TABLE orders ALTER COLUMN reference SET NOT NULL', /may still write NULL/],
  ['ALTER TABLE orders ALTER COLUMN currency DROP NOT NULL', /cannot read the NULL/],
  ['ALTER TABLE orders ALTER COLUMN version DROP DEFAULT', /leave the column out/],
  ['ALTER TABLE orders DROP CONSTRAINT orders_total_exact', /ON CONFLICT/],
  ['ALTER TABLE orders ADD COLUMN note text NOT NULL', /writes no value for it/],
  ['ALTER TABLE orders ADD COLUMN note uuid DEFAULT gen_random_uuid()', /constant default/],
  ['ALTER TABLE orders ADD COLUMN note integer GENERATED ALWAYS AS IDENTITY', /constant default/],
  ['ALTER TABLE orders ADD COLUMN note text UNIQUE', /checked on every row/],
  ['ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0)', /checked on every row/],
  ['ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID', /must satisfy it too/],
  ['ALTER TABLE orders ADD CONSTRAINT u UNIQUE (reference)', /index is built/],
  ['ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX i', /must satisfy it too/],
  ['ALTER TABLE orders ENABLE ROW LEVEL SECURITY', /does not know/],
  ['CREATE INDEX i ON orders (total)', /while the index is built/],
  ['CREATE INDEX CONCURRENTLY i ON orders (total)', /cannot run in a transaction/],
  ['DROP INDEX orders_status_id_idx', /ON CONFLICT/],
  ['UPDATE orders SET version = 2', /rows stay locked/],
  ['DELETE FROM outbox', /rows stay locked/],
  ["INSERT INTO products VALUES ('a', 'b', 1, 'EUR', 1) ON CONFLICT (sku) DO UPDATE SET stock = 0", /rows stay locked/],
  ['CREATE TRIGGER g BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION f()', /can fail/],
  ['CREATE TABLE part PARTITION OF orders DEFAULT', /does not know/],
  ['DO $$ BEGIN DROP TABLE orders; END $$', /does not know/],
  ['SELECT setval(\'s\', 1)', /does not know/],
  ['COMMIT', /end it half-way/]
]

for (const [sql, why] of breaking) {
  t.test(`db:check refuses ${sql}`, async t => {
    t.match(await faultsOf(`SET lock_timeout = '1s';\n${sql};`), [{ line: 2, why, instead: /\.$/, safeBecause: undefined }])
  })
}

t.test('db:check accepts statements that only add', async t => {
  t.same(await faultsOf(`
    SET lock_timeout = '1s';
    ALTER TABLE orders ADD COLUMN note text, ADD COLUMN level integer NOT NULL DEFAULT 1, ADD COLUMN seen timestamptz DEFAULT CURRENT_TIMESTAMP;
    ALTER TABLE orders ALTER COLUMN note SET DEFAULT 'none', ALTER COLUMN note SET STATISTICS 500;
    ALTER TABLE orders VALIDATE CONSTRAINT c;
    CREATE TYPE mood AS ENUM ('good');
    CREATE TABLE tips (id uuid PRIMARY KEY, order_id uuid NOT NULL REFERENCES orders (id), mood mood NOT NULL);
    CREATE INDEX ON tips (order_id);
    ALTER TABLE tips ADD CHECK (true), ALTER COLUMN mood DROP NOT NULL;
    CREATE OR REPLACE FUNCTION place_orders(batch json, lease_ms integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN DROP TABLE orders; RETURN 1; END $$;
    INSERT INTO products VALUES ('a', 'b', 1, 'EUR', 1);
    COMMENT ON TABLE tips IS 'DROP TABLE orders;';`), [])
})

t.test('db:check accepts an index that is built CONCURRENTLY and alone, and the migrator builds it', async t => {
  const script = '-- For the search.\n-- no-transaction\nCREATE INDEX CONCURRENTLY "orders_total_idx" ON "orders"("total");\n'
  t.same(await faultsOf(script), [])
  t.match(await faultsOf(script.replace('INDEX', 'UNIQUE INDEX')), [{ line: 3, why: /must be unique too/ }])
  t.match(await faultsOf(script.replace('-- no-transaction\n', '')), [{ line: 2, why: /cannot run in a transaction/, instead: /-- no-transaction/ }])
  t.match(await faultsOf('-- no-transaction\nCREATE TABLE tips ();'), [{ line: 2, why: /leaves a part of it/ }], '-- no-transaction is for nothing else')
  const { url } = await createTestDatabase(t, { empty: true })
  const directory = t.testdir({ '1_orders': { 'migration.sql': 'CREATE TABLE orders (total integer)' }, '2_index': { 'migration.sql': script } })
  t.same((await migrate({ url, directory })).applied, ['1_orders', '2_index'])
})

t.test('db:check refuses a statement that waits for a lock without a bound, even if it has a reason', async t => {
  const sql = '-- safe-because: nobody does\nALTER TABLE orders DROP COLUMN reference'
  t.match(await faultsOf(sql), [{ safeBecause: 'nobody does' }, { line: 2, why: /waits too/, safeBecause: undefined }])
  t.match(await faultsOf(`SET lock_timeout = 0;\n${sql}`), [{ safeBecause: 'nobody does' }, { why: /waits too/ }])
  t.match(await faultsOf('CREATE TABLE tips (order_id uuid REFERENCES orders (id))'), [{ why: /waits too/ }], 'a foreign key locks the other table')
  t.equal((await faultsOf(`SET LOCAL lock_timeout = '500ms';\n${sql}`)).length, 1)
})

t.test('a safe-because reason counts only for the statement below it', async t => {
  const faults = await faultsOf(`SET lock_timeout = '1s'; -- Größe in Bytes, nicht in Zeichen
-- safe-because: no version reads it since v2
ALTER TABLE orders DROP COLUMN reference;
DROP TABLE stops; -- safe-because: too late
-- safe-because:
DROP TABLE products;
DROP TABLE "-- safe-because: not a comment";`)
  t.same(faults.map(({ line, safeBecause }) => [line, safeBecause]), [[3, 'no version reads it since v2'], [4, undefined], [6, undefined], [7, undefined]])
})

t.test('db:check reports a syntax error with its line', async t => {
  t.match(await faultsOf('CREATE TABLE a ();\nCREATE TABEL b ();'), [{ line: 2, why: /syntax error at or near "TABEL"/ }])
})

t.test('db:check looks only at migrations after the base, and refuses a change of a released one', async t => {
  const { clone, migrations, add, commit } = releasedRepository(t)
  add('2_drop', "SET lock_timeout = '1s';\nDROP TABLE stops;")
  t.match(await checkMigrations({ directory: migrations }), { base: undefined, added: ['2_drop'], faults: [{ line: 2 }] }, 'without a release all migrations but the first are new')
  commit('v1.0.0')
  add('3_more', 'CREATE TABLE tips ();')
  commit('v1.1.0')
  t.match(await checkMigrations({ directory: migrations }), { base: 'v1.0.0', added: ['3_more'], faults: [] }, 'the base is the release before this one')
  t.match(await checkMigrations({ directory: migrations, base: 'v1.1.0' }), { added: [], faults: [] })

  appendFileSync(join(migrations, '2_drop/migration.sql'), '-- changed\n')
  rmSync(join(migrations, '3_more'), { recursive: true })
  const { faults } = await checkMigrations({ directory: migrations, base: 'v1.1.0' })
  t.match(faults, [{ file: /2_drop/, why: /was released/ }, { file: /3_more/, why: /was released/ }])
  await t.rejects(checkMigrations({ directory: migrations, base: 'v9' }), { message: /v9/ })
  t.ok(clone)
})

t.test('npm run db:check fails, and names file, line, reason and remedy', async t => {
  const { clone, add } = releasedRepository(t)
  t.match(await run(process.execPath, ['prisma/check-migrations.ts'], { cwd: clone }), { stdout: '0 migrations since the first one: none breaks the previous version.\n' })
  add('2_drop', "SET lock_timeout = '1s';\n-- safe-because: nobody reads it\nDROP TABLE stops;\nDROP TABLE products;")
  await t.rejects(run(process.execPath, ['prisma/check-migrations.ts'], { cwd: clone }), {
    code: 1,
    stdout: 'prisma/migrations/2_drop/migration.sql:3: accepted. The previous version still uses what is dropped here. Safe because: nobody reads it\n',
    stderr: /^prisma\/migrations\/2_drop\/migration\.sql:4: The previous version still uses [^]*drop it in the release after\.\n1 of these would break [^]*docs\/upgrading\.md/
  })
  await t.rejects(run(process.execPath, ['prisma/check-migrations.ts', '--base', 'v9'], { cwd: clone }), { code: 2, stderr: /were not checked: .*v9/ })
})

/** Makes a clone with one migration and without a release. */
function releasedRepository (t: Test) {
  const clone = cloneOfRepository(t)
  const migrations = join(clone, 'prisma/migrations')
  rmSync(migrations, { recursive: true })
  const git = (...args: string[]): void => { execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=test@example.org', ...args], { cwd: clone, stdio: 'ignore' }) }
  const add = (name: string, script: string): void => {
    mkdirSync(join(migrations, name), { recursive: true })
    writeFileSync(join(migrations, name, 'migration.sql'), script)
  }
  git('init')
  add('1_first', 'CREATE TABLE orders ();')
  git('add', 'prisma/migrations')
  git('commit', '-m', 'first')
  return {
    clone,
    migrations,
    add,
    commit (tag: string): void {
      git('add', 'prisma/migrations')
      git('commit', '-m', tag)
      git('tag', tag)
    }
  }
}
