import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Proved } from './prove.ts'

/** What `last-caught.json` holds; it is kept in git with the code that it speaks of. */
interface Caught {
  /** Of the harness, when the controls were run. */
  readonly commit: string
  /** Something of it was not committed then. */
  readonly changed: boolean
  /** ISO 8601. */
  readonly at: string
  readonly seed: number
  readonly versions: Readonly<Record<string, string>>
  /** By name: the promise that it was caught by; null: it was not. */
  readonly controls: Readonly<Record<string, string | null>>
}

const usualFile = join(import.meta.dirname, 'last-caught.json')
/** What decides what is caught. */
const harness = ['..', ':(exclude)last-caught.json', ':(exclude)../test', ':(exclude,glob)../**/*.md']

/** Writes down what a run of all of them found. @throws Error where it cannot be written, as in a package that was installed */
export async function keepCaught (proved: readonly Proved[], { seed, file = usualFile }: { seed: number, file?: string }): Promise<void> {
  const record: Caught = {
    commit: await git('rev-parse', '--short=12', 'HEAD') ?? 'unknown',
    changed: await git('status', '--porcelain', '--', ...harness) !== '',
    at: new Date().toISOString(),
    seed,
    versions: { node: process.versions.node, ...postgresOf(proved) },
    controls: Object.fromEntries(proved.map(({ control: { name, expected }, isCaught }) => [name, isCaught ? expected : null]))
  }
  writeFileSync(file, JSON.stringify(record, undefined, 2) + '\n')
}

/** In a sentence for a report: when, at which commit, and whether the harness is still the same. */
export async function whenLastCaught (file = usualFile): Promise<string> {
  let record: Caught
  try {
    record = JSON.parse(readFileSync(file, 'utf8')) as Caught
  } catch {
    return 'never run: npm run verify -- --control all'
  }
  const { commit, changed, at, controls } = record
  const names = Object.keys(controls)
  const missed = names.filter(name => controls[name] === null)
  const what = missed.length === 0 ? `all ${names.length} caught` : `${missed.length} of ${names.length} not caught (${missed.join(', ')})`
  return `${what} on ${at.slice(0, 10)} at commit ${commit}${changed ? ' and changes that were not committed' : ''}; ${await sinceThen(record)}`
}

async function sinceThen ({ commit, changed }: Caught): Promise<string> {
  const files = changed ? undefined : await git('diff', '--name-only', commit, '--', ...harness)
  if (files === undefined) return 'whether the harness has changed since then cannot be told here'
  const count = files === '' ? 0 : files.split('\n').length
  return count === 0 ? 'the harness is the same today' : `the harness has changed since then, in ${count} ${count === 1 ? 'file' : 'files'}: npm run verify -- --control all`
}

/** undefined: no git, not its repository, or not that commit. */
async function git (...args: string[]): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)('git', args, { cwd: import.meta.dirname })
    return stdout.trim()
  } catch {
    return undefined
  }
}

function postgresOf (proved: readonly Proved[]): Record<string, string> {
  const [postgres] = proved.flatMap(({ verdict }) => verdict.environment['postgres server_version'] ?? [])
  return postgres === undefined ? {} : { postgres }
}
