import t from 'tap'
import { drawDecision, drawFault, drawNotices } from '../../gateway/call-faults.ts'
import { random } from '../../random.ts'

t.test('the same seed draws the same faults, of every kind, and most calls have none', async t => {
  const drawn = (seed: number): Array<string | undefined> => {
    const draw = random(seed)
    return Array.from({ length: 1_000 }, () => drawFault(draw))
  }
  t.strictSame(drawn(1), drawn(1))
  t.notSame(drawn(1), drawn(2))
  t.strictSame([...new Set(drawn(1))].sort(), ['500-after', '500-before', 'lost', 'slow-after', 'slow-before', undefined])
  t.ok(drawn(1).filter(fault => fault === undefined).length > 700)
})

t.test('some charges are declined, some are pending, and some are made at once', async t => {
  const draw = random(1)
  t.strictSame([...new Set(Array.from({ length: 200 }, () => drawDecision(draw)))].sort(), ['at-once', 'declined', 'pending'])
})

t.test('a change is notified never, once or twice, and a later change may be notified first', async t => {
  const draw = random(1)
  const notices = Array.from({ length: 200 }, () => drawNotices(draw))
  t.strictSame([...new Set(notices.map(({ length }) => length))].sort(), [0, 1, 2])
  t.ok(notices.flat().some((delay, i, all) => delay < (all[i - 1] ?? 0)))
})
