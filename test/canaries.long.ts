import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { globSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { ageKeys } from '../config/key-services.ts'
import { seal } from '../config/sealed.ts'
import { MountedFolder } from './config/mounted.ts'
import { createTestDatabase } from './postgres.ts'
import { spawnService, type Service } from './service.ts'

const run = promisify(execFile)

t.test('a run leaves no secret in logs, errors, answers, reports, copies or the diagnostic report of a crash', async t => {
  const directory = join(t.testdir(), 'run')
  mkdirSync(directory)
  const canaries = Object.fromEntries(['OPS_TOKEN', 'AUTH_JWT_SECRET', 'AUTH_JWT_SECRET_PREVIOUS', 'EVENTS_TOKEN', 'PAYMENTS_TOKEN', 'PAYMENTS_NOTIFY_SECRET', 'CUSTOMERS_TOKEN', 'REGISTRY_TOKEN', 'CONFIG_TOKEN', 'OTEL_EXPORTER_OTLP_HEADERS', 'DATABASE_PASSWORD', 'QUERY', 'ROTATED', 'SEALED'].map(name => [name, `canary${randomBytes(16).toString('hex')}`]))
  const canary = (name: string): string => canaries[name] ?? ''
  const outputs: string[] = []

  // Every called service answers 500, so that each call fails and is logged.
  const called = createServer((request, response) => { response.writeHead(500, { 'content-type': 'application/json' }).end('{}') }).listen(0, '127.0.0.1')
  await once(called, 'listening')
  t.teardown(() => { called.closeAllConnections(); called.close() })
  const calledUrl = `http://127.0.0.1:${(called.address() as AddressInfo).port}`

  const { url } = await createTestDatabase(t)
  const withPassword = new URL(url)
  const secretFiles = { OPS_TOKEN: canary('OPS_TOKEN'), AUTH_JWT_SECRET: canary('AUTH_JWT_SECRET'), AUTH_JWT_SECRET_PREVIOUS: canary('AUTH_JWT_SECRET_PREVIOUS'), EVENTS_TOKEN: canary('EVENTS_TOKEN'), DATABASE_PASSWORD: canary('DATABASE_PASSWORD') }
  const secrets = new MountedFolder(join(t.testdir({ secrets: {} }), 'secrets-of-the-test'), secretFiles)
  const central = new MountedFolder(join(t.testdirName, 'central'), { LOG_LEVEL: 'trace', CUSTOMERS_TOKEN: canary('CUSTOMERS_TOKEN'), REGISTRY_TOKEN: canary('REGISTRY_TOKEN') })
  const { identity, recipient } = await keyOfAge()
  const keyFile = join(t.testdirName, 'age-key')
  writeFileSync(keyFile, identity)
  mkdirSync(directory, { recursive: true })
  const sealedFile = join(directory, 'sealed.json')
  writeFileSync(sealedFile, await seal(`PAYMENTS_TOKEN=${canary('SEALED')}\n`, 'staging', ageKeys({ recipient })))

  const env = {
    ENVIRONMENT: 'staging',
    PORT: '0',
    OPS_PORT: '0',
    DATABASE_URL: withPassword.href,
    ...Object.fromEntries(Object.keys(secretFiles).map(name => [`${name}_FILE`, join(secrets.path, name)])),
    CONFIG_URL: pathToFileURL(central.path).href,
    CONFIG_TOKEN: canary('CONFIG_TOKEN'),
    CONFIG_CACHE_FILE: join(directory, 'copy.json'),
    CONFIG_RELOAD_INTERVAL_MS: '0',
    CONFIG_SEALED_FILE: sealedFile,
    CONFIG_SEALED_KEY_FILE: keyFile,
    EVENTS_URL: `${calledUrl}/events`,
    PAYMENTS_URL: calledUrl,
    PAYMENTS_NOTIFY_SECRET: canary('PAYMENTS_NOTIFY_SECRET'),
    CUSTOMERS_URL: calledUrl,
    CUSTOMER_CHECK: 'tolerant',
    REGISTRY_REGISTER_URL: `${calledUrl}/in?key=${canary('QUERY')}`,
    REGISTRY_DEREGISTER_URL: `${calledUrl}/out?key=${canary('QUERY')}`,
    OTEL_EXPORTER_OTLP_ENDPOINT: calledUrl,
    OTEL_EXPORTER_OTLP_HEADERS: `authorization=${canary('OTEL_EXPORTER_OTLP_HEADERS')}`,
    DRAIN_REPORT_FILE: join(directory, 'drain.json'),
    // Node's report of a crash contains the whole environment, unless --report-exclude-env is given.
    NODE_OPTIONS: `--report-uncaught-exception --report-exclude-env --report-directory=${directory}`
  }
  const served = await started(t, env)
  for (const path of ['/config', '/metrics', '/health', '/readyz?verbose', '/fleet', '/drain', '/reports', '/events/dead', '/demo-ledger']) {
    const response = await fetch(served.opsUrl + path)
    outputs.push(`${path} ${JSON.stringify([...response.headers])} ${await response.text()}`)
  }
  const bodies = ['{', JSON.stringify({ currency: 'EUR', items: [{ sku: 'none', quantity: 1 }] })]
  for (const body of bodies) {
    const response = await fetch(`${served.url}/orders`, { method: 'POST', headers: { authorization: `Bearer ${canary('OPS_TOKEN').slice(0, 6)}`, 'content-type': 'application/json', 'idempotency-key': 'x' }, body })
    outputs.push(await response.text())
  }
  // A refused change, a change that takes a restart, and a rotated secret.
  central.write({ LOG_LEVEL: 'loud', CUSTOMERS_TOKEN: canary('ROTATED'), REGISTRY_TOKEN: canary('REGISTRY_TOKEN') })
  await served.line(/Settings were changed and cannot be used/)
  central.write({ LOG_LEVEL: 'debug', CUSTOMERS_TOKEN: canary('ROTATED'), REGISTRY_TOKEN: canary('ROTATED') })
  await served.line(/take a restart/)
  await served.line(/Settings were changed, and are in force/)
  secrets.write({ ...secretFiles, AUTH_JWT_SECRET: canary('ROTATED') })
  while (served.lines.filter(line => line.includes('"source":"files"')).length === 0) await pause()
  outputs.push(await (await fetch(`${served.opsUrl}/config`)).text())
  served.child.kill('SIGTERM')
  await served.exited
  outputs.push(served.lines.join('\n'))

  // Starts that fail: wrong settings, an unreachable database, another environment, an unreachable source of settings.
  for (const wrong of [
    { PORT: 'eighty', OPS_TOKEN: canary('OPS_TOKEN') },
    { DATABASE_URL: 'postgresql://someone@127.0.0.1:1/orders' },
    { DATABASE_URL: `postgresql://someone:${canary('DATABASE_PASSWORD')}@127.0.0.1:1/orders`, DATABASE_PASSWORD_FILE: '' },
    { DATABASE_URL: `mysql://someone:${canary('DATABASE_PASSWORD')}@db/orders` },
    { ENVIRONMENT: 'production', CONFIG_SEALED_FILE: '', CONFIG_SEALED_KEY_FILE: '', PAYMENTS_URL: '' },
    { CONFIG_URL: `etcd://u:${canary('CONFIG_TOKEN')}@127.0.0.1:1/last-orders/staging` },
    { CONFIG_URL: 'etcd://127.0.0.1:1/last-orders/staging', CONFIG_CACHE_FILE: '' }
  ]) {
    const failed = spawnService(t, { ...env, ...wrong })
    t.not((await failed.exited)[0], 0, JSON.stringify(Object.keys(wrong)))
    outputs.push(failed.lines.join('\n'))
  }
  // The commands that print settings.
  for (const args of [['config/print.ts'], ['config/print.ts', '--json'], ['config/print.ts', '--check', join(directory, 'sealed.json')]]) {
    const { stdout, stderr } = await run(process.execPath, args, { cwd: new URL('..', import.meta.url), env: { PATH: process.env.PATH, ...env } }).catch((error: { stdout: string, stderr: string }) => error)
    outputs.push(stdout + stderr)
  }
  // A crash: a preloaded module throws while the service serves.
  const bomb = join(directory, 'bomb.cjs')
  writeFileSync(bomb, "setTimeout(() => { throw new Error('a crash') }, 8_000)\n")
  const crashed = spawnService(t, { ...env, NODE_OPTIONS: `${env.NODE_OPTIONS} --require=${bomb}` })
  t.equal((await crashed.exited)[0], 1)
  outputs.push(crashed.lines.join('\n'))

  const files = globSync('**', { cwd: directory }).filter(file => statSync(join(directory, file)).isFile())
  t.match(files.join(), /copy\.json/, 'the copy was written')
  t.match(files.join(), /drain\.json/)
  const left = [...outputs, ...files.map(file => readFileSync(join(directory, file), 'utf8'))].join('\n')
  t.match(left, 'a crash')
  t.ok(left.length > 10_000)
  t.same(found(left, canaries), [])
})

t.test('the search for secrets finds a canary in plain text, in hex and in base64', async t => {
  const canary = `canary${randomBytes(16).toString('hex')}`
  for (const hidden of [canary, Buffer.from(canary).toString('base64'), Buffer.from(canary).toString('base64url'), Buffer.from(canary).toString('hex'), Buffer.from(`xy${canary}`).toString('base64'), encodeURIComponent(canary)]) t.same(found(`log ${hidden} log`, { canary }), ['canary'])
})

/** The names of the canaries in the text: as they are, in hex, or in base64 at any offset. */
function found (text: string, canaries: Record<string, string>): string[] {
  return Object.entries(canaries).filter(([, canary]) => {
    const encoded = [0, 1, 2].map(offset => Buffer.concat([Buffer.alloc(offset), Buffer.from(canary)]).toString('base64').slice(offset === 0 ? 0 : 4, -4))
    return [canary, Buffer.from(canary).toString('hex'), ...encoded].some(form => text.includes(form))
  }).map(([name]) => name)
}

async function started (t: Test, env: Record<string, string>): Promise<Service> {
  const service = spawnService(t, env)
  const ready = await Promise.race([service.line(/^ {2}ops {3}/), service.exited])
  if (typeof ready !== 'string') throw new Error(`The service ended:\n${service.lines.join('\n')}`)
  const originOf = (label: string): string => /https?:\/\/\S+/.exec(service.lines.find(line => line.startsWith(`  ${label} `)) ?? '')?.[0] ?? ''
  return { ...service, url: originOf('API'), opsUrl: originOf('ops') }
}

async function keyOfAge (): Promise<{ identity: string, recipient: string }> {
  const { generateIdentity, identityToRecipient } = await import('age-encryption')
  const identity = await generateIdentity()
  return { identity, recipient: await identityToRecipient(identity) }
}

async function pause (): Promise<void> {
  await new Promise(resolve => setTimeout(resolve, 10))
}
