// Loads applications as other people's frameworks generate them, with the plugin; sends each SIGTERM, and judges the stop.
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { observeStop } from 'fastify-drain/test'
import type { StopAccount } from 'fastify-drain/test'
import { install, run } from './install.ts'
import { compare, cut, reportOf } from './judge.ts'
import type { Recipe } from './recipe.ts'

const help = `Applications of other people's frameworks, with fastify-drain: each is loaded, sent SIGTERM, and judged.

  npm run test:apps                                  all of them; installs their frameworks where they are missing
  npm run test:apps -- --recipe nest,apollo          these

Exits 0 if nothing was cut and every exit code is the report's.
`
/** Each answer takes about 200 ms, so that there are enough answers before the signal, and clients in every state at it. */
const loadMs = 1_000

interface Row {
  recipe: Recipe
  adopt: number
  /** Undefined if no stop was observed. */
  account: StopAccount | undefined
  reported: number | null | undefined
  faults: string[]
}

async function runRecipe (recipe: Recipe, say: (line: string) => void): Promise<Row> {
  const cwd = fileURLToPath(new URL(`${recipe.cwd ?? recipe.name}/`, import.meta.url))
  const row: Row = { recipe, adopt: await linesToAdopt(recipe, cwd), account: undefined, reported: undefined, faults: [] }
  try {
    if (recipe.build !== undefined) {
      say(`${recipe.name}: building`)
      await run(ofThisNode(recipe.build), cwd)
    }
    const prepared = await recipe.prepare?.()
    try {
      say(`${recipe.name}: running`)
      const origin = `http://127.0.0.1:${await freePort()}`
      const beside = recipe.beside?.(origin)
      const { env, ...options } = recipe.options ?? {}
      const account = row.account = await observeStop({
        loadFor: loadMs,
        ...options,
        command: ofThisNode(recipe.command),
        cwd,
        env: { ...env, ...prepared?.env, PORT: new URL(origin).port, HOST: '127.0.0.1' },
        url: origin + recipe.path,
        ...typeof recipe.ready === 'string' ? { ready: origin + recipe.ready } : recipe.ready && { ready: recipe.ready }
      })
      const report = reportOf(account)
      row.reported = report?.exitCode
      row.faults.push(
        ...account.faults.map(({ count, says }) => `${count} × ${says}`),
        ...compare(account, report, recipe.lameDuck ?? 0),
        ...await beside?.ended(account) ?? [],
        ...await recipe.after?.(account) ?? []
      )
    } finally {
      await prepared?.end()
    }
  } catch (error) {
    row.faults.push(error instanceof Error ? error.message : String(error))
  }
  return row
}

async function linesToAdopt ({ marked }: Recipe, cwd: string): Promise<number> {
  const texts = await Promise.all(marked.map(file => readFile(resolve(cwd, file), 'utf8')))
  return texts.flatMap(text => text.split('\n')).filter(line => /(\/\/|#).*\bdrain\b/.test(line)).length
}

function ofThisNode ([program, ...args]: readonly [string, ...string[]]): [string, ...string[]] {
  return [process.execPath, ...program === 'node' ? [] : [fileURLToPath(new URL(`node_modules/.bin/${program}`, import.meta.url))], ...args]
}

async function freePort (): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

function table (rows: readonly Row[]): string {
  const cells = [
    ['recipe', 'lines to adopt', 'in flight at SIGTERM', 'cut', 'exit code', 'report', ''],
    ...rows.map(({ recipe, adopt, account, reported, faults }) => [
      recipe.title,
      String(adopt),
      ...account === undefined
        ? ['–', '–', '–']
        : [String(account.inFlight), String(cut(account)), String(account.exit.code ?? account.exit.signal)],
      String(reported ?? '–'),
      faults.length === 0 ? '✓' : '✗'
    ])
  ]
  const widths = cells[0]?.map((_, column) => Math.max(...cells.map(row => row[column]?.length ?? 0))) ?? []
  const lines = cells.map(row => `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`)
  lines.splice(1, 0, `| ${widths.map(width => '-'.repeat(width)).join(' | ')} |`)
  return lines.join('\n')
}

async function main (): Promise<void> {
  const { values } = parseArgs({ options: { recipe: { type: 'string' }, help: { type: 'boolean', default: false } } })
  if (values.help) return console.log(help)
  const say = (line: string): void => console.error(line)
  await install(say)
  // Imported only now, because the clients of the recipes import what has just been installed.
  const { recipes: RECIPES } = await import('./recipes.ts')
  const names = values.recipe?.split(',')
  const unknown = names?.filter(name => !RECIPES.some(recipe => recipe.name === name)) ?? []
  if (unknown.length > 0) {
    say(`There is no recipe '${unknown.join("', '")}'. Nothing was started.\n\n${help}Recipes: ${RECIPES.map(({ name }) => name).join(', ')}`)
    process.exitCode = 2
    return
  }

  const rows: Row[] = []
  for (const recipe of RECIPES.filter(({ name }) => names?.includes(name) ?? true)) {
    const row = await runRecipe(recipe, say)
    rows.push(row)
    for (const fault of row.faults) say(`  ✗ ${fault}`)
    if (row.faults.length > 0 && row.account !== undefined) say(row.account.output.map(line => `      ${line}`).join('\n'))
  }
  console.log(table(rows))
  const failed = rows.filter(({ faults }) => faults.length > 0)
  if (failed.length === 0) return
  say(`\nLook at what failed: npm run test:apps -- --recipe ${failed.map(({ recipe }) => recipe.name).join(',')}`)
  process.exitCode = 1
}

await main()
