import t from 'tap'
import { uuidv7 } from '../../commit/uuidv7.ts'

t.test('an id is a UUID of version 7 that begins with its time', async t => {
  for (const at of [0, 1, Date.UTC(2026, 10, 23), 2 ** 48 - 1]) {
    const id = uuidv7(at)
    t.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    t.equal(Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16), at)
  }
})

t.test('ids sort by their time', async t => {
  const times = [7, 70, 700, 7_000_000, Date.now(), Date.now() + 1]
  const ids = times.map(uuidv7)
  t.same(ids.toSorted(), ids)
})

t.test('ids of the same time differ', async t => {
  const ids = Array.from({ length: 10_000 }, () => uuidv7(1))
  t.equal(new Set(ids).size, ids.length)
})
