import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startProgram } from '../../test/program.ts'
import { readHistory } from '../../verify/history-file.ts'
import type { Verdict } from '../../verify/verdict.ts'
import { descendantsOf, gone } from '../../verify/test/processes.ts'

const bin = join(import.meta.dirname, '../run.ts')

t.test('a short run that stops the service under load breaks no promise, names what it does not show, and leaves its evidence and no process', async t => {
  const out = join(t.testdir(), 'out')
  const run = start(t, ['--scenario', 'term', '--duration', '8', '--seed', '1', '--out', out])
  await run.line(/order-service is ready/)
  const started = descendantsOf(run.pid)
  const code = await run.exited
  const verdict = JSON.parse(readFileSync(join(out, 'verdict.json'), 'utf8')) as Verdict
  // How many occasions there are in so short a time depends on the machine.
  const held = verdict.missing.length === 0
  t.equal(code, held ? 0 : 2, run.lines.join('\n'))
  t.ok(run.lines.some(line => line.startsWith(held ? 'HELD' : 'UNKNOWN')))
  t.match(verdict, {
    verdict: held ? 'held' : 'unknown',
    scenario: 'term',
    target: 'order-service',
    seed: 1,
    duration: 8_000
  })
  t.ok(verdict.coverage.length > 15)
  t.equal(verdict.coverage.some(({ count, needed, skipped }) => skipped === undefined && count < needed), verdict.missing.some(reason => reason.startsWith('Not shown')))
  t.match(readFileSync(join(out, 'report.html'), 'utf8'), /<\/html>/)
  t.ok(verdict.acknowledged > 0)
  for (const { invariant, looked, broken } of verdict.checked) {
    // Only a rolling restart promises that no request fails, and only the scenario payments has a gateway whose ledger can be read.
    if (['failedRequest', 'chargedTwice', 'paidUncharged', 'declinedCharged', 'shippedUnpaid', 'strayCharge', 'wrongRefund'].includes(invariant)) t.equal(looked, null)
    else t.ok(looked !== null && looked > 0, `${invariant} was looked at`)
    t.equal(broken, 0, invariant)
    t.equal(verdict[invariant], 0, invariant)
  }
  t.ok(verdict.faults.some(({ inFlight }) => inFlight > 0))
  for (const fault of verdict.faults) {
    t.match(fault, { kind: 'term', instance: 0, exitCode: 0, drainMs: Number, recoveredAt: Number, phases: { draining: Number, closing: Number, closed: Number } })
    const { draining = NaN, closing = NaN } = fault.phases ?? {}
    t.ok(draining <= closing && closing - draining < 1_000, 'without a balancer there is no lame duck')
  }
  t.equal(verdict.environment['postgres fsync'], 'on')

  const asked = readHistory(join(out, 'history.jsonl')).lines.filter(line => line.type === 'invoke')
  t.ok(asked.length > verdict.attempted)
  t.ok(readHistory(join(out, 'settle.jsonl')).lines.length > 0)
  await gone(started)
})

t.test('unusable arguments are refused at once, and nothing is started', async t => {
  const out = join(t.testdir(), 'out')
  const run = start(t, ['--scenario', 'sigterm', '--rate', '0', '--out', out])
  t.equal(await run.exited, 2)
  const said = run.lines.join('\n')
  t.match(said, /--scenario is "sigterm"[^]*--rate is "0"[^]*Usage: /)
  t.notOk(existsSync(out))
})

t.test('a service that does not start is reported with its own output, and nothing is left running', async t => {
  const directory = t.testdir({
    'target.mjs': `export default {
      name: 'broken',
      start: () => ({ command: [process.execPath, '-e', 'require("node:child_process").spawn("sleep", ["600"]); console.error("no such table"); setTimeout(() => process.exit(7), 300)'], env: {} }),
      readiness: '/', request: () => undefined, understand: () => ({ type: 'info' }), snapshot: async () => ({ orders: [] })
    }`
  })
  const run = start(t, ['--target', join(directory, 'target.mjs'), '--out', join(directory, 'out')])
  const code = await run.exited
  t.equal(code, 2)
  t.match(run.lines.join('\n'), /Instance 0 of the service ended by itself, with 7\.\n[^]*no such table/)
})

t.test('faults of a database are refused for a target that brings its own database', async t => {
  const directory = t.testdir({
    'target.mjs': "export default { name: 'elsewhere', start () {}, readiness: '/', request () {}, understand () {}, snapshot () {} }"
  })
  const run = start(t, ['--scenario', 'failover', '--target', join(directory, 'target.mjs'), '--out', join(directory, 'out')])
  t.equal(await run.exited, 2)
  t.match(run.lines.join('\n'), /The scenario failover cannot be run, and nothing was started\. The target elsewhere has no `postgres`/)
})

t.test('a missing failover manager is named, with the command that installs it', async t => {
  const nothing = { PATH: t.testdir() }
  const run = start(t, ['--scenario', 'failover', '--manager', 'patroni', '--out', join(t.testdirName, 'out')], nothing)
  t.equal(await run.exited, 2)
  t.match(run.lines.join('\n'), /The scenario failover cannot be run, and nothing was started\. Missing here: patroni, etcd.*apt-get install -y patroni etcd-server/)

  const help = start(t, ['--help'], nothing)
  t.equal(await help.exited, 0)
  t.match(help.lines.join('\n'), /Not on this machine:\n[^]*--manager patroni: Missing here: patroni, etcd/)
})

t.test('an interruption under load ends every started process, judges nothing and says so', async t => {
  const out = join(t.testdir(), 'out')
  const run = start(t, ['--duration', '600', '--out', out])
  await run.line(/load: /)
  const started = descendantsOf(run.pid)
  t.ok(started.length > 3, 'a service, a load and the processes of a database')
  process.kill(run.pid, 'SIGINT')
  t.equal(await run.exited, 2)
  await gone(started)
  t.equal(run.lines.at(-1), 'SIGINT: the run was ended, and nothing was judged.')
  t.notOk(existsSync(join(out, 'verdict.json')))
})

function start (t: Test, args: string[], env: NodeJS.ProcessEnv = process.env) {
  const program = startProgram(t, [process.execPath, bin, ...args], { env, endBy: 'SIGTERM' })
  const { pid } = program.child
  if (pid === undefined) throw new Error('The command could not be started.')
  return { ...program, pid, exited: program.exited.then(([code]) => code) }
}
