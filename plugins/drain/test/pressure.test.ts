import t from 'tap'
import { start } from './start.ts'

t.test('under-pressure reads readiness from the drain, and refuses no request during the lame duck', async t => {
  const program = await start(t, 'pressure', { hold: true })
  const held = fetch(`${program.url}/held`)
  await program.hears('begun')
  t.equal((await fetch(`${program.url}/status`)).status, 200)
  program.kill('SIGTERM')
  await program.line('draining')
  // From the second request on, under-pressure has seen the stop.
  for (let i = 0; i < 3; i++) {
    const answer = await fetch(program.url)
    t.equal(answer.status, 200)
    t.same(await answer.json(), { pressed: true })
  }
  t.equal((await fetch(`${program.url}/not-found`)).status, 404)
  t.equal((await fetch(`${program.url}/status`)).status, 503, 'a balancer that checks the status learns of the stop')
  program.tell('close')
  program.tell('finish')
  t.equal((await held).status, 200)
  t.same(await program.ended, [0, null])
})
