import { globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const imports = /((?:from|import\()\s*')(\.{1,2}\/[^']+)(')/g

/**
 * Moves those files of a folder that others outside of it import, with all that they import, and turns every import to where
 * they are now. What is left in the folder nobody needs. Both folders are equally deep: the files find others by where they are.
 */
export function keepTools (root: string, from: string, to: string): void {
  const sources = globSync('**/*.ts', { cwd: root, exclude: ['node_modules', '**/node_modules'] })
  const isTool = (path: string): boolean => path.startsWith(`${from}/`)
  const wanted = new Set<string>()
  const want = (path: string): void => {
    if (wanted.has(path)) return
    wanted.add(path)
    importsOf(root, path).filter(isTool).forEach(want)
  }
  for (const source of sources) if (!isTool(source)) importsOf(root, source).filter(isTool).forEach(want)

  const moved = (path: string): string => wanted.has(path) ? to + path.slice(from.length) : path
  for (const source of sources) {
    if (isTool(source) && !wanted.has(source)) continue
    const text = readFileSync(join(root, source), 'utf8')
    const turned = text.replace(imports, (found, before: string, specifier: string, after: string) => {
      const target = join(dirname(source), specifier)
      if (moved(source) === source && moved(target) === target) return found
      const path = relative(dirname(moved(source)), moved(target))
      return before + (path.startsWith('.') ? path : `./${path}`) + after
    })
    if (turned !== text) writeFileSync(join(root, source), turned)
  }
  for (const path of wanted) {
    mkdirSync(dirname(join(root, moved(path))), { recursive: true })
    renameSync(join(root, path), join(root, moved(path)))
  }
}

function importsOf (root: string, path: string): string[] {
  return [...readFileSync(join(root, path), 'utf8').matchAll(imports)].map(([, , specifier = '']) => join(dirname(path), specifier))
}
