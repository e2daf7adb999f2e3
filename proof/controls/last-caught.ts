import { execFile } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Proved } from './prove.ts'

/** The contents of `last-caught.json`, which is in git together with the code that it is about. */
interface Caught {
  /** The commit of the harness when the controls ran. */
  readonly commit: string
  /** Whether the harness had uncommitted changes then. */
  readonly changed: boolean
  /** ISO 8601. */
  readonly at: string
  readonly seed: number
  readonly versions: Readonly<Record<string, string>>
  /** By name: the promise that caught it; null if it was not caught. */
  readonly controls: Readonly<Record<string, string | null>>
}

const usualFile = join(import.meta.dirname, 'last-caught.json')
/** The files that decide what is caught. */
const harness = ['..', '../../verify', ':(exclude)last-caught.json', ':(exclude)../../verify/test', ':(exclude,glob)../../verify/**/*.md']

/** Records what a run of all controls found. @throws Error if the file cannot be written, as in an installed package */
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

/** A sentence for a report: when, at which commit, and whether the harness is still the same. */
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

/** undefined if there is no git, the repository is another, or the commit is missing. */
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
