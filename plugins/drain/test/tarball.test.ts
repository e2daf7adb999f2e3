import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

const run = promisify(execFile)
const source = fileURLToPath(new URL('..', import.meta.url))
const modules = fileURLToPath(new URL('../../../node_modules', import.meta.url))

const folder = await mkdtemp(join(tmpdir(), 'fastify-drain-'))
t.teardown(() => rm(folder, { recursive: true }))

// Packed from a copy: packing builds, and the other tests import the dist that it would build anew.
const copy = join(folder, 'source/package')
for (const entry of ['src', 'tsconfig.json', 'package.json', 'README.md', 'CHANGELOG.md', 'LICENSE']) {
  await cp(join(source, entry), join(copy, entry), { recursive: true })
}
await symlink(modules, join(folder, 'source/node_modules'))
await mkdir(join(copy, 'dist'))
await writeFile(join(copy, 'dist/of-an-older-build.js'), '')
const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], { cwd: copy })
// What the build prints comes before it.
const [packed] = JSON.parse(stdout.slice(stdout.search(/^\[$/m))) as [{ filename: string, size: number, files: Array<{ path: string }> }]

t.test('the package holds what its source builds to, and nothing else', async (t) => {
  const sources = (await readdir(join(source, 'src'), { recursive: true })).filter((name) => name.endsWith('.ts')).map((name) => name.slice(0, -3))
  t.same(packed.files.map(({ path }) => path).sort(), [
    'CHANGELOG.md', 'LICENSE', 'README.md', 'package.json',
    ...sources.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`])
  ].sort())
  t.comment(`${packed.files.length} files, ${packed.size} bytes packed`)
  t.ok(packed.size < 60_000)
})

t.test('installed alone into an empty project, it compiles, drains, and its kit sees that', async (t) => {
  const project = join(folder, 'project')
  await mkdir(project)
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }))
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
      // How rare they are is for other tests to say, on a machine that does less at once.
      allow: { unread: 20 }
    })
    console.log(JSON.stringify(account))
  `)
  await run('npm', ['install', join(folder, packed.filename), 'fastify', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: project })
  await run(process.execPath, [
    join(modules, 'typescript/bin/tsc'), 'server.ts', 'stop.ts', '--ignoreConfig', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node', '--typeRoots', join(modules, '@types')
  ], { cwd: project })
  const { stdout } = await run(process.execPath, ['stop.js'], { cwd: project })
  const account = JSON.parse(stdout)
  t.match(account, { inFlight: 20, exit: { code: 0, signal: null }, faults: [] })
  t.match(account.output.join('\n'), /^completed: [1-9]/m)
})
