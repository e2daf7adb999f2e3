import { existsSync, globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { judge } from '../../fork/arguments.ts'
import { makeFork } from '../../fork/make.ts'

// npm run fork:try installs forks and runs their tests; CI does it.

const root = join(import.meta.dirname, '../..')

t.test('a fork has its own resource and fields in place of orders, and names this project only in licences', async t => {
  const directory = join(t.testdir({}), 'table-talk')
  makeFork(root, judge({ directory, resource: 'booking', fields: 'room:text,nights:int', without: undefined }), () => {})
  const read = (path: string): string => readFileSync(join(directory, path), 'utf8')
  t.match(read('prisma/migrations/20261123000000_bookings/migration.sql'), '"nights" INTEGER')
  t.match(read('bookings/booking.ts'), 'nights: number | null')
  t.match(read('routes/bookings.ts'), "app.post('/bookings'")
  t.match(read('test/routes/fields.test.ts'), "ask<{ id: string }>('POST', '/bookings'")
  for (const path of globSync('{commit,outbox}/*.ts', { cwd: root })) t.equal(read(path), readFileSync(join(root, path), 'utf8'), `${path} knows no orders`)
  t.notOk(existsSync(join(directory, 'fork')))
  const files = globSync('**/*', { cwd: directory, withFileTypes: true }).filter(entry => entry.isFile() && entry.name !== 'LICENSE')
  t.same(files.map(entry => join(entry.parentPath, entry.name)).filter(path => /last-orders|Last Orders/.test(readFileSync(path, 'utf8'))), [])
})

t.test('the README of a fork names only scripts and programs that the fork has', async t => {
  const directory = join(t.testdir({}), 'clinic')
  makeFork(root, judge({ directory, resource: 'appointment', fields: 'paidUp:bool', without: 'verify,bench,deploy' }), () => {})
  const readme = readFileSync(join(directory, 'README.md'), 'utf8')
  const { scripts } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  const named = (pattern: RegExp): string[] => [...readme.matchAll(pattern)].map(([, name = '']) => name)
  t.same(named(/npm run (?:-s )?([\w:-]+)/g).filter(script => !(script in scripts)), [])
  t.same(named(/npx node ([\w/.-]+)/g).filter(program => !existsSync(join(directory, program))), [])
})

t.test('a resource whose type would have the name of another one is refused, and nothing is made', async t => {
  for (const resource of ['record', 'run']) {
    const directory = join(t.testdir({}), resource)
    t.throws(() => makeFork(root, judge({ directory, resource, fields: '', without: undefined }), () => {}), { name: 'ForkError', message: new RegExp(`"${resource}", and the code has another type with that name`) })
    t.notOk(existsSync(directory))
  }
})
