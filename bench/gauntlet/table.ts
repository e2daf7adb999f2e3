/** A cell of the table. `broken`: the gauntlet itself failed, and nothing is known about the subject. */
export interface Outcome {
  result: 'passed' | 'failed' | 'broken'
  /** A failure in a few words. */
  says: string
  ms: number
}

export interface Row {
  name: string
  says: string
  outcomes: readonly Outcome[]
}

export interface Gauntlet {
  date: string
  versions: readonly string[]
  columns: readonly string[]
  rows: readonly Row[]
}

export function describe ({ result, says }: Outcome): string {
  if (result === 'passed') return '✓'
  return `${result === 'failed' ? '✗' : '?'} ${says}`
}

/** How many cases each column passes. */
function totals ({ columns, rows }: Gauntlet): string[] {
  return columns.map((_, column) => `${rows.filter(({ outcomes }) => outcomes[column]?.result === 'passed').length} of ${rows.length}`)
}

/** The table for people: its cells are wrapped to fit into `width` characters. */
export function plain (gauntlet: Gauntlet, width: number): string {
  const { date, versions, columns, rows } = gauntlet
  const first = Math.max('passed'.length, ...rows.map(({ name }) => name.length))
  const longest = Math.max(...columns.map(({ length }) => length), ...rows.flatMap(({ outcomes }) => outcomes.map(outcome => describe(outcome).length)))
  const rest = Math.min(longest, Math.max(10, Math.floor((width - first) / columns.length) - 3))
  const line = (name: string, cells: readonly string[]): string => {
    const wrapped = cells.map(cell => wrap(cell, rest))
    const height = Math.max(...wrapped.map(({ length }) => length))
    return Array.from({ length: height }, (_, n) => [(n === 0 ? name : '').padEnd(first), ...wrapped.map(lines => (lines[n] ?? '').padEnd(rest))].join(' │ ')).join('\n')
  }
  const rule = ['─'.repeat(first), ...columns.map(() => '─'.repeat(rest))].join('─┼─')
  return [
    `${date} · ${versions.join(' · ')}`,
    '',
    line('', columns),
    rule,
    ...rows.map(({ name, outcomes }) => line(name, outcomes.map(describe))),
    rule,
    line('passed', totals(gauntlet)),
    '',
    ...rows.map(({ name, says }) => `${name.padEnd(first)}   ${says}`)
  ].join('\n')
}

export function markdown (gauntlet: Gauntlet): string {
  const { date, versions, columns, rows } = gauntlet
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [
    `${date}: ${versions.join(', ')}.`,
    '',
    line(['', ...columns]),
    line(['---', ...columns.map(() => '---')]),
    ...rows.map(({ name, outcomes }) => line([name, ...outcomes.map(describe)])),
    line(['**passed**', ...totals(gauntlet)]),
    '',
    ...rows.map(({ name, says }) => `- **${name}**: ${says}.`)
  ].join('\n')
}

/** Wraps at spaces and hyphens; a longer word is cut. */
function wrap (text: string, width: number): string[] {
  const lines = ['']
  for (const word of text.split(/(?<=[ -])/)) {
    const line = lines.at(-1) ?? ''
    if (line !== '' && (line + word).trimEnd().length > width) lines.push(word)
    else lines[lines.length - 1] = line + word
  }
  return lines.flatMap(line => line.trimEnd().match(new RegExp(`.{1,${width}}`, 'g')) ?? [''])
}
