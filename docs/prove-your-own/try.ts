import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { withoutNpm } from '../../fork/without-npm.ts'

// Follows docs/prove-your-own.md in an empty folder, with the package as it would be published: nothing of this clone is
// there but the tarball. npm_config_omit=optional leaves out its Postgres and its Node, which that page does without.

const root = join(import.meta.dirname, '../..')
const lastStep = 6

const folder = mkdtempSync(join(tmpdir(), 'prove-your-own-'))
const environment = {
  ...withoutNpm(process.env),
  ...process.env.npm_config_omit !== undefined && { npm_config_omit: process.env.npm_config_omit },
  PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH}`
}

try {
  const empty = join(folder, 'empty')
  mkdirSync(empty)
  sh(root, `npm pack --silent --workspace last-orders-verify --pack-destination '${empty}'`)
  let tried = 0
  for (const { step, language, file, content } of blocksOf(readFileSync(join(root, 'docs/prove-your-own.md'), 'utf8'))) {
    if (step > tried) console.log(`── ${tried = step}`)
    if (language === 'sh') sh(empty, content)
    if (file !== '') writeFileSync(join(empty, file), content)
  }
  if (tried !== lastStep) throw new Error(`docs/prove-your-own.md has ${tried} steps with blocks; ${lastStep} were to be tried.`)
  console.log('The page works: docs/prove-your-own.md was followed to its last step, from a packed package in an empty folder.')
} catch (error) {
  console.error(error, '\nThe page was not followed to its end. Correct docs/prove-your-own.md, or what it describes.')
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function sh (cwd: string, script: string): void {
  execFileSync('bash', ['-euo', 'pipefail', '-c', script], { cwd, env: environment, stdio: 'inherit' })
}

/** The fenced blocks below headings that have a number. What comes after those is for reading. */
function blocksOf (page: string): Array<{ step: number, language: string, file: string, content: string }> {
  return page.split(/^## (?=\d)/m).slice(1).flatMap(section => {
    const steps = section.split(/^## /m)[0] ?? ''
    return Array.from(steps.matchAll(/^```(\w*) ?(\S*)\n([^]*?)^```$/gm), ([, language = '', file = '', content = '']) => ({ step: parseInt(section), language, file, content }))
  })
}
