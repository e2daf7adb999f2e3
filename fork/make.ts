import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, globSync, lstatSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ForkError, type ForkOptions } from './arguments.ts'
import { writeDocuments } from './documents.ts'
import { Edit } from './edit.ts'
import { addFields } from './fields.ts'
import { leaveOut } from './leave-out.ts'
import { withoutNpm } from './without-npm.ts'
import { capitalized, wordsOf, type Words } from './words.ts'

/** Whose text is not ours to change: a licence names who wrote what it covers. */
const verbatim = /(?:^|\/)LICENSE$|\.(?:webp|png|svg|ico)$/

/**
 * Makes a fork: what is committed here, or would be with the next commit, as a repository of its own.
 *
 * @param source the root of this repository
 * @param told hears what is done next
 */
export function makeFork (source: string, options: ForkOptions, told: (step: string) => void): void {
  const { directory, fields, without } = options
  told('copies the files')
  copyFiles(source, directory)
  told('takes out what is not wanted')
  leaveOut(directory, without)
  const taken = typesInTheWay(directory, options)
  if (taken.length > 0) {
    rmSync(directory, { recursive: true })
    throw new ForkError([`--resource is "${options.resource}", and the code has another type with that name: ${taken.join(', ')}. Take another word.`])
  }
  told('adds the fields')
  addFields(directory, fields)
  // Other words and more fields make longer lines.
  new Edit(directory, 'eslint.config.js').replace('code: 160, comments: 160', 'code: 240, comments: 240').save()
  new Edit(directory, 'CONTRIBUTING.md').replace('at most 160 characters', 'at most 240 characters').save()
  told('writes its documents')
  writeDocuments(directory, options)
  told('swaps the words')
  swapWords(directory, wordsOf(options))
  if (without.length > 0) {
    told('writes its lockfile')
    npm(directory, 'install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund', '--silent')
  }
  git(directory, 'init', '--quiet', '--initial-branch=main')
  git(directory, 'add', '--all')
}

function copyFiles (from: string, to: string): void {
  if (!existsSync(join(from, '.git'))) throw new ForkError(['This copy of the template is no git repository, so it cannot be told what belongs to it. Clone it, and run the command there.'])
  for (const file of git(from, 'ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0')) {
    // One that is deleted and not committed yet is named all the same.
    if (file === '' || !existsSync(join(from, file))) continue
    mkdirSync(dirname(join(to, file)), { recursive: true })
    copyFileSync(join(from, file), join(to, file))
  }
}

/** The names of types that would stand for two things in one file, such as Record. */
function typesInTheWay (root: string, { resource, plural }: ForkOptions): string[] {
  const name = `(${capitalized(resource)}|${capitalized(plural)})\\b`
  const uses = new RegExp(`\\b(?:interface|type|class|enum) ${name}|^import .*\\b${name}|\\b${name}<`, 'gm')
  const found = globSync('**/*.ts', { cwd: root, exclude: path => path === 'plugins/drain' }).flatMap(file => {
    const code = readFileSync(join(root, file), 'utf8')
    return /\bOrders?\b/.test(code) ? [...code.matchAll(uses)].flatMap(match => match.slice(1).filter(found => found !== undefined)) : []
  })
  return [...new Set(found)]
}

/** In every file, and in what it is called. The plugin and the lockfile know no orders: there only the name is swapped. */
function swapWords (root: string, words: Words): void {
  const files = globSync('**/*', { cwd: root }).concat(globSync('{.*,.*/**/*}', { cwd: root })).filter(path => lstatSync(join(root, path)).isFile())
  for (const path of new Set(files)) {
    if (!verbatim.test(path)) {
      const text = readFileSync(join(root, path), 'utf8')
      const swapped = path.startsWith('plugins/drain/') || path === 'package-lock.json' ? words.inName(text) : words.inText(text)
      if (swapped !== text) writeFileSync(join(root, path), swapped)
    }
    const renamed = path.startsWith('plugins/drain/') ? path : words.inPath(path)
    if (renamed === path) continue
    mkdirSync(dirname(join(root, renamed)), { recursive: true })
    renameSync(join(root, path), join(root, renamed))
    removeIfEmpty(root, dirname(path))
  }
}

function removeIfEmpty (root: string, folder: string): void {
  try {
    for (let path = folder; path !== '.'; path = dirname(path)) rmdirSync(join(root, path))
  } catch {
    // Something is in it.
  }
}

function git (directory: string, ...args: string[]): string {
  return execFileSync('git', args, { cwd: directory, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
}

function npm (directory: string, ...args: string[]): void {
  execFileSync('npm', args, { cwd: directory, env: withoutNpm(process.env), stdio: 'inherit' })
}
