import { join } from 'node:path'
import { styleText } from 'node:util'
import { follow } from '../judge/told.ts'
import type { Counterexample, Verdict } from '../verdict.ts'
import { faultKinds, inOneLine } from './fault-kinds.ts'
import { asked, availability, bound, command, count, headline, names, occasion, told, time } from './words.ts'

const colours = { held: 'green', broken: 'red', unknown: 'yellow' } as const

/**
 * The text at the end of a run.
 * @param directory the folder of its files, as it is printed
 * @param stream the output, which is coloured only if it is a terminal
 */
export function terminalReport (verdict: Verdict, directory: string, stream: NodeJS.WritableStream = process.stdout): string {
  const paint = (format: Parameters<typeof styleText>[0], text: string): string => styleText(format, text, { stream })
  const { attempted, acknowledged, refused, unknown, recovered, faults, latency, checked, coverage, counterexamples } = verdict
  const row = (name: string, text: string): string => `  ${paint('dim', `${name.padEnd(17)} `)}${text}`

  const promises = checked.map(({ invariant, says, looked, broken }) => {
    if (looked === null) return row(names[invariant], paint('yellow', 'not checked'))
    const found = `${count(broken)} of ${count(looked)}`.padEnd(16)
    return row(names[invariant], `${paint(broken > 0 ? 'red' : 'green', found)}${paint('dim', says)}`)
  })
  const notChecked = checked.flatMap(({ invariant, because }) => because === undefined ? [] : [row('not checked', `${names[invariant]}: ${because}`)])
  const firsts = counterexamples.filter(({ invariant }, i) => counterexamples.findIndex(other => other.invariant === invariant) === i)

  return [
    '',
    `${paint(['bold', colours[verdict.verdict]], verdict.verdict.toUpperCase())}  ${headline(verdict)}`,
    '',
    row('orders', `${count(attempted)} attempted = ${count(acknowledged)} acknowledged + ${count(refused)} refused + ${count(unknown)} unknown, of which ${count(recovered)} were stored`),
    '',
    ...promises,
    '',
    ...coverage.flatMap(each => {
      const { skipped, count: had, needed } = each
      if (skipped !== undefined) return [row('skipped', `${occasion(each)}: ${skipped}`)]
      const share = `${count(had)} (${count(needed)} needed)`.padEnd(22)
      return [row(had < needed ? 'not shown' : 'shown', `${paint(had < needed ? 'yellow' : 'green', share)}${paint('dim', occasion(each))}`)]
    }),
    ...coverage.length === 0 ? [] : [''],
    ...faultKinds(faults).map(kind => row(kind.kind, inOneLine(kind))),
    row('answered', availability(verdict).says),
    row('latency', `p50 ${time(latency.p50)}, p99 ${time(latency.p99)}, max ${time(latency.max)}, from when the request was due`),
    row('bound', bound(verdict)),
    ...verdict.environment.controls === undefined ? [] : [row('the controls', verdict.environment.controls)],
    ...notChecked,
    ...(verdict.skipped ?? []).map(what => row('skipped', what)),
    ...verdict.missing.map(reason => row('missing', paint('yellow', reason))),
    ...firsts.length === 0 ? [] : ['', ...firsts.flatMap(first => inTwoLines(first, row))],
    ...counterexamples.length === firsts.length ? [] : [row('', `and ${count(counterexamples.length - firsts.length)} more, in the report and the verdict`)],
    '',
    row('the report', join(directory, 'report.html')),
    row('the verdict', join(directory, 'verdict.json')),
    row('the history', join(directory, 'history.jsonl')),
    row('run it again', command(verdict))
  ].join('\n')
}

function inTwoLines ({ invariant, says, lines }: Counterexample, row: (name: string, text: string) => string): string[] {
  const answers = follow(lines, []).exchanges.map(({ invocation, completion }) => `${asked(invocation)}: ${told(completion)}`)
  const shown = answers.length > 3 ? [...answers.slice(0, 2), '…', ...answers.slice(-1)] : answers
  return [row(names[invariant], visible(says)), row('', visible(shown.length === 0 ? 'No client asked for it.' : shown.join(', ')))]
}

/** Keys and ids are the clients' data: control characters are shown and not executed. */
function visible (text: string): string {
  return text.replace(/\p{Cc}/gu, character => JSON.stringify(character).slice(1, -1))
}
