import pg from 'pg'
import t, { type Test } from 'tap'
import { GroupCommit, type Carried, type Pending } from '../../commit/group-commit.ts'
import { createTestDatabase } from '../postgres.ts'

// A resource that has nothing to do with orders: visits of a room.

interface Visit extends Pending {
  room: string
}

type Stored = { outcome: 'created' | 'replayed', room: string } | { outcome: 'key-reused' }

const visits: Carried<Stored> = {
  singular: 'visit',
  plural: 'visits',
  isProvenByRow: ({ outcome }) => outcome === 'created' || outcome === 'replayed' || outcome === 'key-reused',
  toldToTwin: stored => stored.outcome === 'created' ? { ...stored, outcome: 'replayed' } : stored
}

async function openVisits (t: Test, { losesFirstAnswer = false } = {}) {
  const { url } = await createTestDatabase(t)
  const pool = new pg.Pool({ connectionString: url })
  t.teardown(() => pool.end())
  await pool.query('CREATE TABLE visits (customer text, key text, fingerprint text NOT NULL, room text NOT NULL, PRIMARY KEY (customer, key))')
  const batches: number[] = []
  const commits = new GroupCommit<Visit, Stored>(visits, {
    batchMax: 100,
    inFlight: 2,
    queueMax: 100,
    timeoutMs: () => 10_000,
    track: async (label, work) => {
      t.equal(label, 'visit batch')
      await work
    },
    async place (batch) {
      const { rows } = await pool.query<{ isNew: boolean, fingerprint: string, room: string }>(`
        INSERT INTO visits SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
        ON CONFLICT (customer, key) DO UPDATE SET room = visits.room
        RETURNING xmax = 0 AS "isNew", fingerprint, room`,
      [batch.map(({ customer }) => customer), batch.map(visit => visit.idempotencyKey), batch.map(visit => visit.fingerprint), batch.map(({ room }) => room)])
      batches.push(batch.length)
      if (losesFirstAnswer && batches.length === 1) throw new Error('Connection terminated unexpectedly')
      return batch.map((visit, index): Stored => {
        const { isNew, fingerprint, room } = rows[index] ?? { isNew: false, fingerprint: '', room: '' }
        return fingerprint === visit.fingerprint ? { outcome: isNew ? 'created' : 'replayed', room } : { outcome: 'key-reused' }
      })
    }
  })
  const visit = (customer: string, key: string, room: string) => commits.submit({ customer, idempotencyKey: key, fingerprint: room, room })
  return { visit, batches, count: async () => (await pool.query('SELECT FROM visits')).rowCount }
}

t.test('the group commit carries any resource: a batch is one statement, and a twin gets the answer of the first one', async t => {
  const { visit, batches, count } = await openVisits(t)
  const answers = await Promise.all([visit('alice', '1', 'red'), visit('alice', '1', 'red'), visit('bob', '1', 'blue'), visit('alice', '1', 'green')])
  t.same(answers, [{ outcome: 'created', room: 'red' }, { outcome: 'replayed', room: 'red' }, { outcome: 'created', room: 'blue' }, { outcome: 'key-reused' }])
  t.same(batches, [2, 1])
  t.same(await visit('alice', '1', 'red'), { outcome: 'replayed', room: 'red' })
  t.equal(await count(), 2)
})

t.test('the group commit stores a resource once, if the answer of the database is lost', async t => {
  const { visit, count } = await openVisits(t, { losesFirstAnswer: true })
  t.same(await visit('alice', '1', 'red'), { outcome: 'replayed', room: 'red' })
  t.equal(await count(), 1)
})
