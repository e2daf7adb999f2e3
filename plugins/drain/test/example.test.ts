import { execFile } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'

// With the extension of this file: compiled for a Node that cannot strip types, the example is JavaScript too.
const example = fileURLToPath(new URL(`../example${extname(import.meta.url)}`, import.meta.url))

t.test('the example finishes its orders after SIGTERM, logs the report last and exits with 0', async t => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [example], { env: { ...process.env, PORT: '0' } })
  const [log = [], printed] = [true, false].map(isLog => stdout.split('\n').filter(line => line.startsWith('{') === isLog))
  t.same(printed, [
    'the first order begins',
    'SIGTERM: draining',
    'the first order is stored: 200, Connection: close, while it drains',
    'GET /readyz: 503',
    'the second order begins',
    'the second order is stored: 200, Connection: close, as well',
    'closing',
    'nothing is in flight: the database closes',
    'exit code 0',
    ''
  ])
  t.match(JSON.parse(log.at(-1) ?? '{}'), { drain: { state: 'closed', requests: { completed: { count: 3 }, abandoned: { count: 0 } } } })
  t.equal(stderr, '')
})
