// Runs the package's tests on every Node that it promises to run on, or on those given: node run-on-nodes.ts 20 26
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, glob, readFile, rm, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { nodeOf, nodeVersions } from './node-versions.ts'

interface Count {
  passed: number
  failed: number
  skipped: number
}

const atOnce = 3
const slowest = 'tarball'
/** The time limit of a file, as `.taprc` has it for tap. */
const timeoutS = 240

const source = fileURLToPath(new URL('..', import.meta.url))
// As deep in the repository as the package itself, so that the tests find the same modules. Imports of `fastify-drain`
// in it resolve to the copy, which no other build replaces meanwhile.
const copy = fileURLToPath(new URL('../../../.cache/drain/', import.meta.url))

const apps = fileURLToPath(new URL('apps', import.meta.url))

const majors = process.argv.length > 2 ? process.argv.slice(2).map(Number) : nodeVersions
const total: Count = { passed: 0, failed: 0, skipped: 0 }
const files = await compile()
for (const major of majors) {
  const start = performance.now()
  const count = await runAll(await nodeOf(major))
  console.log(`Node ${major}: ${describe(count)} in ${Math.round((performance.now() - start) / 1000)} s`)
  add(total, count)
}
console.log(`${describe(total)} on Node ${majors.join(', ')}`)
process.exitCode = total.failed === 0 ? 0 : 1

/** Node 20 cannot strip types. */
async function compile (): Promise<string[]> {
  await rm(copy, { recursive: true, force: true })
  // Without the recipes, which bring their own frameworks and are not one test per file.
  await cp(source, copy, { recursive: true, filter: path => path !== apps })
  const tests: string[] = []
  for await (const file of glob(`${copy}{example.ts,test/*.ts}`)) {
    const { outputText } = ts.transpileModule(await readFile(file, 'utf8'), {
      fileName: file,
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, rewriteRelativeImportExtensions: true, inlineSourceMap: true }
    })
    const compiled = file.replace(/\.ts$/, '.js')
    await writeFile(compiled, outputText)
    // The compiler says the same on every Node.
    if (/\.(test|long)\.js$/.test(compiled) && !compiled.endsWith('/types.test.js')) tests.push(compiled)
  }
  // The longest file first: at the end, it would run alone.
  return tests.sort((a, b) => Number(b.includes(slowest)) - Number(a.includes(slowest)))
}

async function runAll (node: string): Promise<Count> {
  const sum: Count = { passed: 0, failed: 0, skipped: 0 }
  const waiting = [...files]
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) add(sum, await run(node, file))
  }))
  return sum
}

/** A test file that runs alone prints TAP: each line without indent is a test. */
async function run (node: string, file: string): Promise<Count> {
  // Node 20 hides the WebSocket that the tests use behind a flag, which later versions accept too.
  const child = spawn(node, ['--enable-source-maps', '--experimental-websocket', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: String(timeoutS), DRAIN_TEST_TYPES_CHECKED: 'by the Node of the repository' }
  })
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')])
  const lines = (pattern: RegExp): number => output.match(pattern)?.length ?? 0
  // TAP's two directives, SKIP and TODO: an ok with either proves nothing.
  const skipped = lines(/^ok .*# (skip|todo)/gmi)
  const count = { passed: lines(/^ok /gm) - skipped, failed: lines(/^not ok /gm), skipped }
  // A file that ends early or tests nothing fails.
  if (count.failed === 0 && (code !== 0 || count.passed + skipped === 0)) count.failed = 1
  console.error(`  ${basename(file).replace(/\.(test|long)\.js$/, '')}: ${describe(count)}`)
  if (count.failed > 0) console.error(output + errors)
  return count
}

function add (to: Count, count: Count): void {
  to.passed += count.passed
  to.failed += count.failed
  to.skipped += count.skipped
}

function describe ({ passed, failed, skipped }: Count): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`
}
