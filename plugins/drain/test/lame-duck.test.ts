import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { connect } from './connect.ts'
import { start } from './start.ts'
import type { Program } from './start.ts'

/** Sends requests, a little less often than every `every` ms, until the service is gone. */
async function ask (program: Program, path: string, every: number): Promise<string[]> {
  const states: string[] = []
  for (;;) {
    try {
      const answer = await fetch(program.url + path, { headers: { connection: 'close' } })
      states.push((await answer.json() as { state: string }).state)
    } catch {
      return states
    }
    await sleep(every)
  }
}

function phase (program: Program): number {
  const { draining, closing } = program.report.phases
  return (closing ?? NaN) - (draining ?? NaN)
}

t.test('the lame duck serves requests for at least its minimum', async t => {
  const program = await start(t, 'lame-duck', { lameDuck: { min: 1_000, quiet: 0, max: 6_000 } })
  program.kill('SIGTERM')
  await program.line('draining')
  const answer = await fetch(program.url)
  t.equal(answer.status, 200)
  t.same(await answer.json(), { state: 'draining' })
  t.equal(answer.headers.get('connection'), 'close')
  t.same(await program.ended, [0, null])
  t.ok(phase(program) >= 1_000 && phase(program) < 4_000, `${phase(program)} ms`)
})

t.test('the lame duck lasts while requests arrive, and ends after a quiet time', async t => {
  const program = await start(t, 'lame-duck', { lameDuck: { min: 0, quiet: 1_000, max: 8_000 } })
  await fetch(program.url)
  program.kill('SIGTERM')
  await program.line('draining')
  await sleep(500)
  const last = performance.now()
  t.equal((await fetch(program.url)).status, 200)
  await program.line('closing')
  const quiet = performance.now() - last
  t.ok(quiet >= 990 && quiet < 3_000, `closing ${quiet} ms after the last request`)
  t.same(await program.ended, [0, null])
})

t.test('the lame duck ends at its maximum, however many requests arrive', async t => {
  const program = await start(t, 'lame-duck', { lameDuck: { min: 0, quiet: 700, max: 1_400 } })
  await fetch(program.url)
  const asked = ask(program, '/', 20)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.ok((await asked).includes('draining'))
  t.ok(phase(program) >= 1_400 && phase(program) < 3_000, `${phase(program)} ms`)
})

t.test('probes do not prolong the lame duck', async t => {
  const program = await start(t, 'lame-duck', { lameDuck: { min: 0, quiet: 500, max: 6_000 } })
  await fetch(program.url)
  const asked = ask(program, '/probe', 20)
  program.kill('SIGTERM')
  t.same(await program.ended, [0, null])
  t.ok((await asked).length > 2)
  t.ok(phase(program) < 4_000, `${phase(program)} ms`)
})

t.test('with jitter, the connections open at the signal are told to close at different moments', async t => {
  const program = await start(t, 'lame-duck', { lameDuck: { max: 2_000, jitter: 2_000 }, hold: true })
  const clients = await Promise.all(Array.from({ length: 20 }, () => connect(t, program.url)))
  // Once all clients have an answer, they go on asking and note when they are told to close.
  for (const client of clients) {
    client.get('/')
    await client.receives('serving')
  }
  program.kill('SIGTERM')
  await program.line('draining')
  const closes = await Promise.all(clients.map(async client => {
    for (let answers = 2; ; answers++) {
      client.get('/')
      while (client.responses.length < answers) await once(client.socket, 'data')
      if (client.responses.at(-1) === '200 close') return answers
      await sleep(20)
    }
  }))
  t.ok(new Set(closes).size > 5, `told after so many answers: ${closes.sort((a, b) => a - b).join(' ')}`)
  t.equal((await fetch(program.url)).headers.get('connection'), 'close', 'a later client is told at once')
  program.tell('close')
  t.same(await program.ended, [0, null])
})
