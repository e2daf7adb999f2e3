import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { LeftBehind } from '../demo/left-behind.ts'
import { runProgram, startProgram, type Program } from '../../test/program.ts'
import { readHistory } from '../../verify/history-file.ts'
import { descendantsOf, gone } from '../../verify/test/processes.ts'

const demo = join(import.meta.dirname, '../demo/run.ts')

t.test('the demo prints what each service left behind, and the one that drains has lost and abandoned nothing', async t => {
  const out = join(t.testdir(), 'out')
  const { exited, lines } = start(t, '--seconds', '18', '--seed', '1', '--out', out)
  const [code] = await exited
  const printed = lines.join('\n')
  t.equal(code, 0, printed)

  const { stops, left } = JSON.parse(readFileSync(join(out, 'demo.json'), 'utf8')) as { stops: number, left: LeftBehind[] }
  const named = (name: string): LeftBehind | undefined => left.find(one => one.name === name)
  t.equal(stops, 2)
  t.match(named('last-orders'), { failed: 0, storedUnknown: 0, rolledBack: 0, missing: 0 })
  // The service cannot decide how many requests are cut: the kernel resets connections that are made while the listener
  // closes. None of those requests has begun.
  const log = readFileSync(join(out, 'last-orders/service-0.log'), 'utf8')
  const abandoned = [...log.matchAll(/"abandoned":\{"count":(\d+)/g)].map(([, count]) => Number(count))
  t.strictSame(abandoned, new Array(stops + 1).fill(0), 'every stop reports that nothing was abandoned')

  t.ok((named('write-behind')?.missing ?? 0) > 0, 'orders that were not yet written are missing')
  t.ok((named('commit-first')?.cut ?? 0) > 0, 'requests under way are cut')
  t.equal(named('commit-first')?.missing, 0)

  // The printed figures must be the counted ones, and the counted ones must be what the clients saw.
  const [heading, rows] = printed.split(/(What each left behind.*\n)/).slice(1)
  t.strictSame(heading?.trim().split(/\s{2,}|(?<=behind) +/).slice(1).join(' ').split(' '), left.map(({ name }) => name))
  t.ok(readFileSync(join(out, 'report.txt'), 'utf8').includes(rows?.split('\n\n')[0] ?? '-'), 'the report says the same')
  for (const [says, of] of [
    ['orders acknowledged', one => one.acknowledged],
    ['refused, nothing stored', one => one.refused],
    ['cut without an answer', one => one.cut],
    ['transactions begun and abandoned', one => one.rolledBack],
    ['acknowledged orders missing', one => one.missing]
  ] satisfies Array<[string, (one: LeftBehind) => number]>) {
    const [, figures = ''] = new RegExp(`${says} +(.*)`).exec(rows ?? '') ?? []
    t.strictSame(figures.split(/ +/).map(figure => Number(figure.replaceAll(',', ''))), left.map(of), says)
  }
  for (const { name, acknowledged } of left) {
    const { lines } = readHistory(join(out, name, 'history.jsonl'))
    t.ok(acknowledged > 0)
    t.equal(lines.filter(({ type }) => type === 'ok').length, acknowledged, name)
  }
})

t.test('an interruption ends every process of the demo, and prints no counts', async t => {
  const out = join(t.testdir(), 'out')
  const { child, exited, line, lines } = start(t, '--seconds', '600', '--out', out)
  await line(/acknowledged/)
  const started = descendantsOf(child.pid ?? NaN)
  t.ok(started.length > 4, 'three services, their clients and the processes of a database')
  child.kill('SIGINT')
  t.strictSame(await exited, [1, null])
  t.match(lines.join('\n'), 'SIGINT: the demo was ended, and nothing was counted.')
  await gone(started)
})

t.test('unusable arguments are refused, and nothing is started', async t => {
  const { code, stderr } = await runProgram([process.execPath, demo, '--seconds', '0'])
  t.equal(code, 2)
  t.match(stderr, /--seconds is "0"; it takes a whole number from 1 to 600\. Nothing was started\.\n\nUsage: /)
})

function start (t: Test, ...args: string[]): Program {
  // The demo ends its services when it is interrupted.
  return startProgram(t, [process.execPath, demo, ...args], { endBy: 'SIGINT' })
}
