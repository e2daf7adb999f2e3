import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import openapiTS, { astToString } from 'openapi-typescript'
import t from 'tap'

const directory = join(import.meta.dirname, '../contracts')

for (const name of ['customers', 'payments']) {
  t.test(`the types of contracts/${name}.yaml are those that npm run contracts writes`, async t => {
    const written = readFileSync(join(directory, `${name}.d.ts`), 'utf8')
    const made = astToString(await openapiTS(new URL(`file://${directory}/${name}.yaml`)))
    // The command also writes a comment at the top.
    t.ok(written.endsWith(made), 'npm run contracts would write the same')
  })
}
