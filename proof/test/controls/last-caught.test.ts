import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execFileSync } from 'node:child_process'
import t from 'tap'
import { keepCaught, whenLastCaught } from '../../controls/last-caught.ts'
import type { Proved } from '../../controls/prove.ts'

const proved = [caught('dropped', true), caught('doubled', true)]
const head = execFileSync('git', ['rev-parse', '--short=12', 'HEAD'], { encoding: 'utf8' }).trim()

t.test('a run of all controls records what was caught, when, and at which commit', async t => {
  const file = join(t.testdir(), 'caught.json')
  await keepCaught(proved, { seed: 7, file })
  const kept = JSON.parse(readFileSync(file, 'utf8')) as { at: string }
  t.match(kept, { commit: head, seed: 7, controls: { dropped: 'lost', doubled: 'lost' }, versions: { node: process.versions.node, postgres: '18.4' } })
  t.match(await whenLastCaught(file), `all 2 caught on ${kept.at.slice(0, 10)} at commit ${head}`)
})

t.test('the record names a control that was not caught', async t => {
  const file = join(t.testdir(), 'caught.json')
  await keepCaught([...proved, caught('total', false)], { seed: 7, file })
  t.match(await whenLastCaught(file), '1 of 3 not caught (total) on ')
})

t.test('a run says if the harness has changed since the controls were last caught', async t => {
  const [first = ''] = execFileSync('git', ['rev-list', '--max-parents=0', 'HEAD'], { encoding: 'utf8' }).split('\n')
  t.match(await said({ commit: first, changed: false }), /^all 1 caught on 2026-01-02 at commit \w+; the harness has changed since then, in \d+ files: npm run verify -- --control all$/)
})

t.test('a run says if it cannot tell whether the harness has changed', async t => {
  t.match(await said({ commit: '0123456789ab', changed: false }), '; whether the harness has changed since then cannot be told here')
  t.match(await said({ commit: head, changed: true }), 'and changes that were not committed; whether the harness has changed since then cannot be told here')
})

t.test('a run says if the controls were never run', async t => {
  t.match(await whenLastCaught(join(t.testdir(), 'none.json')), 'never run')
})

async function said (record: { commit: string, changed: boolean }): Promise<string> {
  return await whenLastCaught(join(t.testdir({ 'caught.json': JSON.stringify({ ...record, at: '2026-01-02T03:04:05Z', seed: 1, versions: {}, controls: { dropped: 'lost' } }) }), 'caught.json'))
}

function caught (name: string, isCaught: boolean): Proved {
  return { control: { name, broken: '', expected: 'lost' }, isCaught, verdict: { environment: { 'postgres server_version': '18.4' } } as unknown as Proved['verdict'] }
}
