import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { faultsOf, type Lock } from '../audit/faults.ts'

const run = promisify(execFile)

const allowed = { licences: ['MIT', 'ISC'], licencesOf: { odd: 'a reason' }, versionsOf: { twice: 'a reason' } }
const knownBad = [{ name: 'elliptic', versions: '*', why: 'It is.' }, { name: 'ws', versions: '<7.5.10 || >=8.0.0 <8.17.1', why: 'It was.' }]
const rules = { allowed, knownBad, scripts: { built: false }, duplicates: true }
const fine = { version: '1.0.0', integrity: 'sha512-x', license: 'MIT' }

function faults (packages: Lock['packages'], dependencies = {}): string[] {
  return faultsOf({ packages: { '': { dependencies }, 'plugins/own': { version: '1.0.0' }, ...packages } }, rules)
}

t.test('the audit finds no fault, and no elliptic, in what this repository installs', async t => {
  const { stdout } = await run(process.execPath, [join(import.meta.dirname, '../audit/run.ts')])
  t.match(stdout, /^package-lock\.json: \d{3,} entries, 0 faults$/m)
  const files = stdout.trim().split('\n')
  t.same(files.filter(line => !/^\S+: \d+ entries, 0 faults$/.test(line)), [])
})

t.test('the audit finds each kind of fault', async t => {
  t.same(faults({ 'node_modules/a': fine, 'node_modules/own': { link: true }, 'node_modules/packed': { version: '1.0.0', license: 'MIT', resolved: 'file:packed.tgz' } }), [])
  t.match(faults({ 'node_modules/a': { version: '1.0.0', license: 'MIT' } }), [/^a 1\.0\.0 has no SHA-512/])
  t.match(faults({ 'node_modules/a': { ...fine, integrity: 'sha1-x' } }), [/^a 1\.0\.0 has no SHA-512/])
  t.same(faults({ 'node_modules/b/node_modules/a': { version: '1.0.0', license: 'MIT', inBundle: true } }), [], 'a bundled package needs no hash of its own')
  t.match(faults({ 'node_modules/a': { ...fine, license: 'GPL-3.0' } }), [/^a 1\.0\.0 has the licence GPL-3\.0/])
  t.match(faults({ 'node_modules/a': { version: '1.0.0', integrity: 'sha512-x' } }), [/^a 1\.0\.0 has no licence/])
  t.match(faults({ 'node_modules/a': { ...fine, license: 'MIT AND GPL-3.0' } }), [/licence/])
  t.same(faults({ 'node_modules/a': { ...fine, license: '(GPL-3.0 OR MIT)' }, 'node_modules/odd': { ...fine, license: 'odd' } }), [])
  t.match(faults({ 'node_modules/a/node_modules/elliptic': { ...fine, version: '99.0.0' } }), [/^elliptic 99\.0\.0 is known to be bad\. It is\.$/])
  t.match(faults({ 'node_modules/other': { ...fine, name: 'elliptic' } }), [/^elliptic 1\.0\.0 is known to be bad/], 'an alias does not hide it')
  for (const version of ['1.0.0', '7.5.9', '8.0.0', '8.17.0', '8.17.0-rc.1']) t.equal(faults({ 'node_modules/ws': { ...fine, version } }).length, 1, version)
  for (const version of ['7.5.10', '7.9.0', '8.17.1', '10.0.0']) t.same(faults({ 'node_modules/ws': { ...fine, version } }), [], version)
  t.match(faults({ 'node_modules/a': { ...fine, hasInstallScript: true }, 'node_modules/built': { ...fine, hasInstallScript: true } }), [/^a 1\.0\.0 runs a script when it is installed/])
  const twice = (name: string) => faults({ [`node_modules/${name}`]: fine, [`node_modules/b/node_modules/${name}`]: { ...fine, version: '2.0.0' } }, { [name]: '1' })
  t.match(twice('a'), [/^a, a direct dependency, is installed in 2 versions: 1\.0\.0, 2\.0\.0/])
  t.same(twice('twice'), [])
  t.throws(() => faultsOf({ packages: { 'node_modules/a': fine } }, { ...rules, knownBad: [{ name: 'a', versions: '^1', why: '' }] }), /cannot be read/)
})

t.test('each file that SECURITY.md names exists', async t => {
  const root = join(import.meta.dirname, '..')
  const text = readFileSync(join(root, 'SECURITY.md'), 'utf8')
  const named = [...text.matchAll(/\]\(([^)]+)\)/g), ...text.matchAll(/`((?:audit|auth|config|plugins|routes)\/[^`]*)`/g)].map(([, path = '']) => path)
  t.ok(named.length > 30)
  for (const path of named) t.ok(existsSync(join(root, path)), path)
})
