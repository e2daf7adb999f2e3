import { relative } from 'node:path'
import { ForkError, help, readArguments } from './arguments.ts'
import { makeFork } from './make.ts'

try {
  const options = await readArguments(process.argv.slice(2))
  if (options === undefined) {
    console.log(help)
  } else {
    const begun = performance.now()
    makeFork(`${import.meta.dirname}/..`, options, step => console.log(`  ${step}`))
    const { directory, name, plural, resource, fields, without } = options
    console.log(`
${name} was made in ${((performance.now() - begun) / 1_000).toFixed(1)} s.

  in       ${directory}
  keeps    ${plural}: POST /${plural}, GET /${plural}/:id, …${fields.length > 0 ? `; each ${resource} has ${fields.map(field => `${field.name} (${field.type})`).join(', ')}` : ''}
  without  ${without.join(', ') || 'nothing'}

Next:

  cd ${relative(process.cwd(), directory) || '.'}
  npm ci && npm start
  npx tap test/routes/*.test.ts

Everything is staged and nothing is committed. docs/forking.md of the template says what a command cannot know.
`)
  }
} catch (error) {
  if (!(error instanceof ForkError)) throw error
  console.error(`The fork was not made.\n${error.message}`)
  process.exitCode = 2
}
