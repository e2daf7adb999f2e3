import t from 'tap'
import { KnownTokens } from '../../auth/known-tokens.ts'

const soon = Date.now() + 3_600_000

t.test('the cache finds the customer of a token until the token expires', async t => {
  const known = new KnownTokens()
  known.remember('a', { customer: 'alice', goodUntilMs: soon })
  known.remember('b', { customer: 'bob', goodUntilMs: Date.now() - 1 })
  t.match(known.find('a'), { customer: 'alice' })
  t.equal(known.find('b'), undefined)
  t.equal(known.find('c'), undefined)
  known.forgetAll()
  t.equal(known.find('a'), undefined)
})

t.test('the cache of tokens is bounded in bytes, and keeps the tokens that are used', async t => {
  const customer = 'c'.repeat(255)
  const known = new KnownTokens(81_000)
  known.remember('used', { customer, goodUntilMs: soon })
  for (let n = 0; n < 1_000; n++) {
    known.remember(`token ${n}`, { customer, goodUntilMs: soon })
    if (known.find('used') === undefined) return t.fail(`The used token was forgotten after ${n} others.`)
  }
  t.ok(known.size <= 101, 'a hundred of 810 bytes')
  t.ok(known.size >= 50)
  t.ok(known.find('token 999'))
  t.equal(known.find('token 0'), undefined)
})
