import { execFile } from 'node:child_process'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import t from 'tap'

// Its `exports` hide its `bin`.
const tstyche = fileURLToPath(new URL('build/bin.js', `file://${createRequire(import.meta.url).resolve('tstyche/package.json')}`))

t.test('the published types pass types/*.tst.ts', t => {
  const options = { cwd: fileURLToPath(new URL('..', import.meta.url)), env: { ...process.env, NO_COLOR: '1' } }
  execFile(process.execPath, [tstyche], options, (error, stdout, stderr) => {
    if (error !== null) t.comment(stdout + stderr)
    t.equal(error, null)
    t.match(stdout, /Tests: +\d+ passed/)
    t.end()
  })
})
