import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import ts from 'typescript'

const run = promisify(execFile)
const source = fileURLToPath(new URL('..', import.meta.url))
const modules = fileURLToPath(new URL('../../../node_modules', import.meta.url))

const documents = ['CHANGELOG.md', 'GAUNTLET.md', 'LICENSE', 'MIGRATING.md', 'README.md']

const folder = await mkdtemp(join(tmpdir(), 'fastify-drain-'))
t.teardown(() => rm(folder, { recursive: true }))

// Packed from a copy: packing runs the build, which would replace the dist that the other tests import.
const copy = join(folder, 'source/package')
for (const entry of ['src', 'commonjs', 'tsconfig.json', 'package.json', ...documents]) {
  await cp(join(source, entry), join(copy, entry), { recursive: true })
}
await symlink(modules, join(folder, 'source/node_modules'))
await mkdir(join(copy, 'dist'))
await writeFile(join(copy, 'dist/of-an-older-build.js'), '')
const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: copy })
// The build prints its lines first.
const [packed] = JSON.parse(stdout.slice(stdout.search(/^\[$/m))) as [{ filename: string, size: number, files: Array<{ path: string }> }]

const project = join(folder, 'project')
await mkdir(project)
await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }))
// TypeScript 5 as well: projects that still resolve as node10 and node16 did are older than 6.
await run('npm', ['install', join(folder, packed.filename), 'fastify', 'typescript@5', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: project })

t.test('the package holds the built modules, the declarations that can be imported, and nothing else', async t => {
  const sources = (await readdir(join(source, 'src'), { recursive: true })).filter(name => name.endsWith('.ts')).map(name => name.slice(0, -3))
  t.same(packed.files.map(({ path }) => path).sort(), [
    ...documents, 'package.json',
    ...['index', 'test'].flatMap(name => [`commonjs/${name}.cjs`, `commonjs/${name}.d.cts`]),
    ...sources.map(name => `dist/${name}.js`),
    ...[...await declarationsFrom('index', 'test')].map(name => `dist/${name}.d.ts`)
  ].sort())
  t.comment(`${packed.files.length} files, ${packed.size} bytes packed`)
  t.ok(packed.size < 60_000)
})

/** The modules whose declarations these entry points lead to. */
async function declarationsFrom (...entryPoints: string[]): Promise<Set<string>> {
  const found = new Set(entryPoints)
  // A Set is iterated to its end, also where that moves.
  for (const name of found) {
    const declarations = await readFile(join(copy, 'dist', `${name}.d.ts`), 'utf8')
    for (const [, path = ''] of declarations.matchAll(/from '(\.[^']+)\.[jt]s'/g)) found.add(join(dirname(name), path))
  }
  return found
}

t.test('the package, installed alone into an empty project, compiles and drains, and its test kit finds the stop clean', async t => {
  await writeFile(join(project, 'server.ts'), `
    import Fastify from 'fastify'
    import drain, { type DrainReport } from 'fastify-drain'
    const app = Fastify()
    const onReport = ({ requests }: DrainReport) => console.log('completed:', requests.completed.count)
    await app.register(drain, { deadline: 10_000, onReport })
    app.get('/', { config: { drain: 'serve' } }, async () => {
      await new Promise((resolve) => setTimeout(resolve, 50))
      return { state: app.drain.state }
    })
    console.log(await app.listen({ port: 0, host: '127.0.0.1' }))
  `)
  await writeFile(join(project, 'stop.ts'), `
    import { expectCleanStop, type StopAccount } from 'fastify-drain/test'
    const account: StopAccount = await expectCleanStop({
      command: [process.execPath, 'server.js'], url: '/', ready: /^(http:.*)$/,
      // Other tests, on a quieter machine, say how rare these are.
      allow: { unread: 20 }
    })
    console.log(JSON.stringify(account))
  `)
  await compile(6, ['server.ts', 'stop.ts'], ['--module', 'nodenext'])
  const { stdout } = await run(process.execPath, ['stop.js'], { cwd: project })
  const account = JSON.parse(stdout)
  t.match(account, { inFlight: 20, exit: { code: 0, signal: null }, faults: [] })
  t.match(account.output.join('\n'), /^completed: [1-9]/m)
})

/** What a user's program does with the package. */
const usingIt = `
  const app = Fastify()
  const policy: DrainPolicy = 'serve'
  const onReport = (report: DrainReport): void => console.log(report.reason, report.state)
  app.register(drain, { exit: false, onReport })
  app.get('/', { config: { drain: policy } }, async () => ({ state: app.drain.state }))

  // @ts-expect-error there is no such option
  export const unknownOption = (): unknown => app.register(drain, { timeout: 10_000 })
  // @ts-expect-error there is no such policy
  export const unknownPolicy: DrainPolicy = 'drop'
  export const stop = (): Promise<StopAccount> => expectCleanStop({ command: ['true'], url: '/' })

  app.inject('/').then(async ({ body }) => {
    console.log(body, typeof FST_ERR_DRAIN_OPTION, expectCleanStop.name)
    await app.close()
  })
`
const importProgram = `
  import Fastify from 'fastify'
  import drain, { FST_ERR_DRAIN_OPTION, type DrainPolicy, type DrainReport } from 'fastify-drain'
  import { expectCleanStop, type StopAccount } from 'fastify-drain/test'
  ${usingIt}
`
const importRequireProgram = `
  import Fastify = require('fastify')
  import drain = require('fastify-drain')
  import kit = require('fastify-drain/test')
  const { FST_ERR_DRAIN_OPTION } = drain
  const { expectCleanStop } = kit
  type DrainPolicy = drain.DrainPolicy
  type DrainReport = drain.DrainReport
  type StopAccount = kit.StopAccount
  ${usingIt}
`
// JavaScript whose types the compiler checks.
const requireProgram = `
  const Fastify = require('fastify')
  const drain = require('fastify-drain')
  const { expectCleanStop } = require('fastify-drain/test')
  const app = Fastify()
  app.register(drain, { exit: false, onReport: (report) => console.log(report.reason, report.state) })
  app.get('/', { config: { drain: 'serve' } }, async () => ({ state: app.drain.state }))

  // @ts-expect-error there is no such option
  module.exports = () => app.register(drain, { timeout: 10_000 })

  app.inject('/').then(async ({ body }) => {
    console.log(body, typeof drain.FST_ERR_DRAIN_OPTION, expectCleanStop.name)
    await app.close()
  })
`

const commonjsPrograms = { 'import.ts': importProgram, 'import-require.ts': importRequireProgram, 'require.js': requireProgram }
const esModulePrograms = { 'import.ts': importProgram }
// Without it Fastify's logger has errors in its own declarations.
const withoutInterop = ['--esModuleInterop', 'false', '--skipLibCheck']

const modes: Array<{ name: string, type: 'commonjs' | 'module', typescript: 5 | 6, options: string[], programs: Record<string, string> }> = [
  { name: 'node10', type: 'commonjs', typescript: 5, options: ['--module', 'commonjs', '--moduleResolution', 'node10', '--esModuleInterop'], programs: commonjsPrograms },
  { name: 'node10 without esModuleInterop', type: 'commonjs', typescript: 5, options: ['--module', 'commonjs', '--moduleResolution', 'node10', ...withoutInterop], programs: commonjsPrograms },
  { name: 'node16', type: 'commonjs', typescript: 5, options: ['--module', 'node16'], programs: commonjsPrograms },
  { name: 'node16 without esModuleInterop', type: 'commonjs', typescript: 5, options: ['--module', 'node16', ...withoutInterop], programs: commonjsPrograms },
  { name: 'nodenext', type: 'commonjs', typescript: 6, options: ['--module', 'nodenext'], programs: commonjsPrograms },
  { name: 'nodenext', type: 'module', typescript: 6, options: ['--module', 'nodenext'], programs: esModulePrograms },
  { name: 'bundler', type: 'module', typescript: 6, options: ['--module', 'esnext', '--moduleResolution', 'bundler'], programs: esModulePrograms }
]

for (const { name, type, typescript, options, programs } of modes) {
  t.test(`under moduleResolution ${name}, TypeScript ${typescript} finds the types in a project of type ${type}, and the programs run`, async t => {
    const cwd = join(project, `${type} ${name}`)
    await mkdir(cwd)
    await writeFile(join(cwd, 'package.json'), JSON.stringify({ type }))
    for (const [file, text] of Object.entries(programs)) await writeFile(join(cwd, file), text)
    await compile(typescript, Object.keys(programs), [...options, '--allowJs', '--checkJs', '--outDir', 'out'], cwd)
    for (const file of Object.keys(programs)) {
      const { stdout, stderr } = await run(process.execPath, [join('out', file.replace(/ts$/, 'js'))], { cwd })
      t.same([stdout, stderr], ['{"state":"serving"} function expectCleanStop\nclose closed\n', ''], file)
    }
  })
}

t.test('require() and import give the same function', async t => {
  const program = `
    const drain = require('fastify-drain')
    import('fastify-drain').then((module) => console.log(typeof drain, drain === module.default, drain === drain.default))
  `
  const { stdout } = await run(process.execPath, ['--input-type=commonjs', '--eval', program], { cwd: project })
  t.equal(stdout, 'function true true\n')
})

for (const entry of ['index', 'test']) {
  t.test(`commonjs/${entry}.d.cts declares the names that dist/${entry}.d.ts declares`, async t => {
    const installed = join(project, 'node_modules/fastify-drain')
    const files = [join(installed, `dist/${entry}.d.ts`), join(installed, `commonjs/${entry}.d.cts`)]
    const program = ts.createProgram(files, { module: ts.ModuleKind.NodeNext, types: [] })
    const [build, commonjs] = files.map(file => names(program, file))
    t.ok(build !== undefined && build.length > 10)
    t.same(commonjs, build)
  })
}

/** Each name, and whether it exists at run time. */
function names (program: ts.Program, file: string): string[] {
  const checker = program.getTypeChecker()
  const source = program.getSourceFile(file)
  const module = source && checker.getSymbolAtLocation(source)
  if (module === undefined) throw new Error(`${file} is no module`)
  return checker.getExportsOfModule(module).map(symbol => {
    const { flags } = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
    return `${symbol.name}: ${flags & ts.SymbolFlags.Value ? 'value' : 'type'}`
  }).sort()
}

/** @throws what the compiler printed, where it found an error */
async function compile (typescript: 5 | 6, files: string[], options: string[], cwd = project): Promise<void> {
  const compiler = typescript === 6 ? [join(modules, 'typescript/bin/tsc'), '--ignoreConfig'] : [join(project, 'node_modules/typescript/bin/tsc')]
  // The types are the same on every Node: when another Node runs the tests, the programs are compiled without a check.
  const checked = process.env['DRAIN_TEST_TYPES_CHECKED'] === undefined ? [] : ['--noCheck']
  const strict = [...checked, '--strict', '--target', 'es2022', '--types', 'node', '--typeRoots', join(modules, '@types')]
  await run(process.execPath, [...compiler, ...files, ...strict, ...options], { cwd }).catch(({ stdout }) => { throw new Error(stdout) })
}
