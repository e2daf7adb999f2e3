import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import t from 'tap'
import { runProgram } from '../../program.ts'
import { startAnswering, vector } from './answering.ts'

const deploy = join(import.meta.dirname, '../../../deploy')
const image = 'registry.example/somebody/last-orders:v1.2.3'

// There is no cluster here: these tests see only which calls of kubectl are made, and in which order.

t.test('the roll-out judges one new pod before the rest follow', async t => {
  const { code, calls, kustomization } = await rollOut(t, { budgetLasts: () => true })
  t.equal(code, 0)
  t.match(calls, [
    /get deployment last-orders/,
    /^apply --kustomize \S+\/overlays\/production$/,
    /rollout pause deployment\/last-orders/,
    /rollout resume deployment\/last-orders/,
    /rollout status deployment\/last-orders/
  ])
  t.equal(calls.length, 5)
  t.ok(calls.filter(call => !call.startsWith('apply')).every(call => call.startsWith('--namespace last-orders-production ')))
  t.match(kustomization, 'newName: registry.example/somebody/last-orders\n')
  t.match(kustomization, 'newTag: v1.2.3\n')
})

t.test('the roll-out changes nothing if the error budget does not allow it', async t => {
  const { code, calls } = await rollOut(t, { budgetLasts: () => false })
  t.equal(code, 1)
  t.strictSame(calls, [])
})

t.test('the roll-out takes back a first pod that burns the error budget', async t => {
  const { code, calls } = await rollOut(t, { budgetLasts: before => before < 2 })
  t.equal(code, 1)
  t.match(calls.slice(2), [/rollout pause/, /rollout resume/, /rollout undo deployment\/last-orders --to-revision=7$/])
  t.equal(calls.length, 5)
})

t.test('a roll-out that does not end is taken back, even if nothing is paused', async t => {
  const { code, calls } = await rollOut(t, { budgetLasts: () => true, fails: ['status', 'resume'] })
  t.not(code, 0)
  t.match(calls.at(-1), /rollout undo deployment\/last-orders --to-revision=7$/)
})

t.test('a refused manifest leaves the earlier revision', async t => {
  const { code, calls } = await rollOut(t, { budgetLasts: () => true, fails: ['apply', 'resume'] })
  t.not(code, 0)
  t.match(calls.at(-1), /rollout undo deployment\/last-orders --to-revision=7$/)
})

interface Test {
  teardown (end: () => unknown): unknown
}

interface Circumstances {
  /** @param before the number of earlier queries */
  budgetLasts: (before: number) => boolean
  /** Calls of kubectl with one of these words fail. */
  fails?: string[]
}

/** Runs the program on a copy, because it writes into the overlay. */
async function rollOut (t: Test, { budgetLasts, fails = [] }: Circumstances): Promise<{ code: number | string, calls: string[], kustomization: string }> {
  const prometheus = await startAnswering(t, (_query, before) => vector(budgetLasts(before) ? '0' : '100'))
  const folder = await mkdtemp(join(tmpdir(), 'roll-out-'))
  t.teardown(() => rm(folder, { recursive: true }))
  for (const part of ['release', 'kubernetes', 'observability/objectives.ts']) await cp(join(deploy, part), join(folder, part), { recursive: true })
  const log = join(folder, 'calls')
  await writeFile(log, '')
  await writeFile(join(folder, 'kubectl'), `#!/usr/bin/env bash
echo "$*" >> '${log}'
case "$*" in *' get '*) echo 7 ;; ${fails.map(word => `*${word}*) exit 1 ;;`).join(' ')} esac
`, { mode: 0o755 })

  const env = { PATH: [folder, dirname(process.execPath), process.env.PATH].join(delimiter), PROMETHEUS_URL: prometheus.url, BAKE_S: '0' }
  const { code } = await runProgram([join(folder, 'release/roll-out'), 'production', image], { env })
  return {
    code,
    calls: (await readFile(log, 'utf8')).split('\n').filter(line => line !== ''),
    kustomization: await readFile(join(folder, 'kubernetes/overlays/production/kustomization.yaml'), 'utf8')
  }
}
