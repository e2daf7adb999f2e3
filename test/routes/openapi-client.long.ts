import { execFile } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import openapiTS, { astToString } from 'openapi-typescript'
import t from 'tap'
import { startApp } from '../app.ts'

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')

t.test('a client that is generated from the OpenAPI document compiles, and a program places orders with it', async t => {
  const { ask, token, url } = await startApp(t)
  const { text } = await ask('GET', '/openapi.json')

  // Within the repository, so that its modules are found.
  mkdirSync(join(root, '.tap'), { recursive: true })
  const directory = mkdtempSync(join(root, '.tap/openapi-client-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  writeFileSync(join(directory, 'api.ts'), astToString(await openapiTS(text)))
  copyFileSync(join(import.meta.dirname, 'openapi-client/program.ts'), join(directory, 'program.ts'))
  writeFileSync(join(directory, 'tsconfig.json'), JSON.stringify({
    extends: '../../tsconfig.json',
    compilerOptions: { allowImportingTsExtensions: true, lib: ['es2024', 'dom', 'dom.asynciterable'] },
    include: ['*.ts'],
    exclude: []
  }))

  const compiled = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', directory]).catch((error: { stdout: string }) => error)
  t.equal(compiled.stdout, '')
  const { stdout } = await run(process.execPath, [join(directory, 'program.ts'), url, token('client'), token('boss', { staff: true })])
  t.same(JSON.parse(stdout), {
    products: [2, 'string'],
    product: [201, '/problems/precondition-required', 1],
    delivered: [2, 'boss'],
    streamed: ['text/event-stream', null],
    placed: [201, 100, 'true', true],
    event: 'placed',
    found: [true],
    refused: ['out of client-made', 'no nothing', 'wrong: /items/0/quantity', 'The Idempotency-Key was used for another request'],
    moved: ['paid', 'paid'],
    notModified: 304
  })
})
