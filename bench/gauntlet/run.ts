import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { nodeVersions, nodeOf } from '../../plugins/drain/test/node-versions.ts'
import { giveUp, readArguments } from '../arguments.ts'
import { allCases } from './cases/all.ts'
import type { Case } from './cases/case.ts'
import { Fault } from './fault.ts'
import { Cell, usualDeadline } from './service.ts'
import { installPeers, ours, allSubjects, versionOf } from './subjects.ts'
import type { Subject } from './subjects.ts'
import { describe, markdown, plain } from './table.ts'
import type { Gauntlet, Outcome } from './table.ts'

const help = `The same stops for fastify-drain and for every peer, each in a process of its own.

  npm run gauntlet                          all of them, as a table
  npm run gauntlet -- --no-peers            fastify-drain alone; nothing is installed
  npm run gauntlet -- --case gone,hang      these cases
  npm run gauntlet -- --subject lightship   these subjects
  npm run gauntlet -- --node 20,22,24,26    on these majors of Node, installed into .cache where missing
  npm run gauntlet -- --markdown            what plugins/drain/GAUNTLET.md has below "Results"
  npm run gauntlet -- --json                for programs

Every subject has a deadline of ${usualDeadline / 1_000} s where it has one. Exits 0 if ${ours} passes every case.
Cases: ${allCases.map(({ name }) => name).join(', ')}
Subjects: ${allSubjects.map(({ name }) => name).join(', ')}
`

/** The services wait more than they work. */
const cellsAtOnce = 4

interface Column {
  subject: Subject
  title: string
  node: string
}

async function runCell (test: Case, column: Column): Promise<Outcome> {
  const cell = new Cell(column.subject, column.node)
  const start = performance.now()
  const ms = (): number => Math.round(performance.now() - start)
  try {
    await test.run(cell)
    return { result: 'passed', says: '', ms: ms() }
  } catch (error) {
    if (column.subject.name === ours || !(error instanceof Fault)) process.stderr.write(`${cell.log()}\n`)
    if (error instanceof Fault) return { result: 'failed', says: error.message, ms: ms() }
    return { result: 'broken', says: error instanceof Error ? error.message : String(error), ms: ms() }
  } finally {
    cell.end()
  }
}

async function runAll (cases: readonly Case[], columns: readonly Column[]): Promise<Outcome[][]> {
  const outcomes: Outcome[][] = cases.map(() => [])
  const queue = cases.flatMap((test, row) => columns.map((column, index) => ({ test, row, column, index })))
  const all = queue.length
  let done = 0
  await Promise.all(Array.from({ length: cellsAtOnce }, async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const { test, row, column, index } = next
      const outcome = await runCell(test, column)
      const cells = outcomes[row]
      if (cells !== undefined) cells[index] = outcome
      process.stderr.write(`${String(++done).padStart(String(all).length)}/${all} ${test.name} · ${column.title} ${describe(outcome)} (${(outcome.ms / 1_000).toFixed(1)} s)\n`)
    }
  }))
  return outcomes
}

function pick<T extends { name: string }> (from: readonly T[], names: string | undefined, what: string): readonly T[] {
  if (names === undefined) return from
  return names.split(',').map(name => {
    const found = from.find(one => one.name === name)
    if (found === undefined) giveUp(`There is no ${what} '${name}'.`, help)
    return found
  })
}

async function main (): Promise<void> {
  const values = readArguments({
    case: { type: 'string' },
    subject: { type: 'string' },
    node: { type: 'string' },
    'no-peers': { type: 'boolean', default: false },
    markdown: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false }
  }, help)
  const say = (line: string): void => { process.stderr.write(`${line}\n`) }
  const cases = pick(allCases, values.case, 'case')
  const subjects = pick(allSubjects, values['no-peers'] ? ours : values.subject, 'subject')
  const majors = values.node?.split(',').map(Number) ?? [Number.parseInt(process.versions.node)]
  for (const major of majors) if (!nodeVersions.includes(major)) giveUp(`--node takes ${nodeVersions.join(', ')}, and not '${values.node}'.`, help)

  if (subjects.some(({ name }) => name !== ours)) await installPeers(say)
  const columns: Column[] = []
  for (const major of majors) {
    const node = await nodeOf(major)
    for (const subject of subjects) columns.push({ subject, title: majors.length === 1 ? subject.name : `${subject.name}, Node ${major}`, node })
  }

  const outcomes = await runAll(cases, columns)
  const nodes = await Promise.all([...new Set(columns.map(({ node }) => node))].map(async node => (await promisify(execFile)(node, ['--version'])).stdout.trim()))
  const gauntlet: Gauntlet = {
    date: new Date().toISOString().slice(0, 10),
    versions: [`Node ${nodes.join(', ')}`, ...new Set(await Promise.all([{ name: 'close' }, ...subjects].map(versionOf)))],
    columns: columns.map(({ title }) => title),
    rows: cases.map(({ name, says }, row) => ({ name, says, outcomes: outcomes[row] ?? [] }))
  }
  if (values.json) process.stdout.write(`${JSON.stringify(gauntlet, undefined, 2)}\n`)
  else if (values.markdown) process.stdout.write(`${markdown(gauntlet)}\n`)
  else process.stdout.write(`${plain(gauntlet, process.stdout.columns ?? 200)}\n`)

  const failed = gauntlet.rows.filter(row => row.outcomes.some(({ result }, column) => result === 'broken' || (result === 'failed' && columns[column]?.subject.name === ours)))
  if (failed.length > 0) process.exitCode = 1
  say(failed.length > 0
    ? `\nLook at what failed: npm run gauntlet -- --no-peers --case ${failed.map(({ name }) => name).join(',')}`
    : '\nFor plugins/drain/GAUNTLET.md: npm run gauntlet -- --markdown')
}

await main()
