import { test } from 'tap'
import { failureOf, NotConnected, type Failure } from '../../commit/failure.ts'
import { openStore } from '../store.ts'

/** SQLSTATEs by what they prove. Postgres itself raises each of them below. */
const codes: Readonly<Record<Failure, string[]>> = {
  poisoned: ['22001', '22003', '22P02', '22P05', '23502', '23503', '23505', '23514', '44000', '54000', 'P0001'],
  blocked: ['55P03', '57014'],
  unavailable: ['40001', '40P01', '40000', '53100', '53200', '53300', '53400', '57P03', '57P05', '58030', '72000'],
  denied: ['0A000', '20000', '21000', '24000', '25006', '25001', '26000', '28000', '28P01', '2BP01', '38000', '39000', '3D000', '3F000', '42501', '42601', '42703', '42883', '42P01', '42P05', '55000', '55006', 'F0000', 'P0002', 'XX000', 'XX001'],
  unknown: ['08006', '08P01', '25P04', '40003', '57000', '57P01', '57P02', '57P04', 'HV000', '99999', 'ZZZZZ']
}

test('each SQLSTATE is classified by what it proves, and a statement that raises it stores nothing', async t => {
  const { prisma, sql } = await openStore(t)
  await sql.query(`CREATE FUNCTION store_and_fail(code text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO products VALUES (code, 'stored', 1, 'EUR', 1);
      RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'as told';
    END $$`)
  for (const [failure, expected] of Object.entries(codes)) {
    for (const code of expected) {
      const error: unknown = await prisma.$queryRaw`SELECT store_and_fail(${code})::text`.then(() => undefined, (error: unknown) => error)
      t.equal(failureOf(error), failure, code)
    }
  }
  t.same((await sql.query("SELECT sku FROM products WHERE name = 'stored'")).rows, [])
})

test('no class of errors in the manual of Postgres is classified as unknown', async t => {
  const { prisma, sql } = await openStore(t)
  await sql.query('CREATE FUNCTION fail(code text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = code; END $$')
  // Without success, warning and no data (00, 01, 02), and without 03, 0F, 10 and others that Postgres never raises.
  for (const klass of ['09', '0A', '0B', '0L', '0P', '0Z', '20', '21', '22', '23', '24', '25', '26', '27', '28', '2B', '2D', '2F', '34', '38', '39', '3B', '3D', '3F', '40', '42', '44', '53', '54', '55', '58', 'F0', 'P0', 'XX']) {
    const error: unknown = await prisma.$queryRaw`SELECT fail(${`${klass}000`})::text`.then(() => undefined, (error: unknown) => error)
    t.not(failureOf(error), 'unknown', klass)
  }
})

test('a PANIC or FATAL with the code of an ordinary error is unknown: the commit may be half written', async t => {
  for (const severity of ['PANIC', 'FATAL']) {
    for (const originalCode of ['53100', '58030', 'XX000']) {
      const panic = Object.assign(new Error('could not write to file "pg_wal/xlogtemp.1"'), { cause: { kind: 'postgres', originalCode, severity } })
      t.equal(failureOf(panic), 'unknown', `${severity} ${originalCode}`)
    }
  }
})

test('a failure to connect proves that no statement was sent, whatever its code', async t => {
  const cause = (code: string): Error => Object.assign(new Error('no connection'), { code })
  for (const code of ['ECONNREFUSED', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOENT', 'ECONNRESET', '53300', '57P03', '57P01', '08006', '55000']) t.equal(failureOf(new NotConnected(cause(code))), 'unavailable', code)
  for (const code of ['28000', '28P01', '3D000', '42501']) t.equal(failureOf(new NotConnected(cause(code))), 'denied', code)
})
