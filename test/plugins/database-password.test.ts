import t from 'tap'
import { DatabasePassword } from '../../plugins/database-password.ts'

t.test('the current database password is tried first, then the previous one, and the one that is accepted is kept', async t => {
  let set = 'one'
  const password = new DatabasePassword(() => set)
  t.equal(password.next(), 'one')
  t.equal(password.refused(), false, 'there is no other')
  t.equal(password.next(), 'one')

  set = 'two'
  t.equal(password.next(), 'two')
  t.equal(password.refused(), true, 'the database does not know it yet')
  t.equal(password.next(), 'one')
  t.equal(password.next(), 'one')
  t.equal(password.refused(), true, 'now it does')
  t.equal(password.next(), 'two')

  set = 'three'
  t.equal(password.refused(), true)
  t.equal(password.next(), 'three', 'the newest password comes first')
})
