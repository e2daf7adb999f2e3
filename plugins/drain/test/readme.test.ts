import { readFile } from 'node:fs/promises'
import t from 'tap'
import { readOptions } from '../dist/options.js'

const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')

t.test('the README shows the code of the example, line for line', async (t) => {
  const shown = /^```js\n(.*?)^```/ms.exec(section('Use'))?.[1]?.split('\n').filter((line) => line !== '') ?? []
  const example = (await readFile(new URL('../example.ts', import.meta.url), 'utf8')).split('\n')
  t.ok(shown.length >= 9)
  t.same(shown, example.filter((line) => shown.includes(line)))
})

t.test('the README names every option with its default', async (t) => {
  const table = Object.fromEntries([...section('Options').matchAll(/^\| `([\w.]+)` \|.*?\| (.+?) \|/gm)].map(([, name, value]) => [name, value]))
  const settings = flatten(readOptions({}))
  t.same(Object.keys(table).sort(), Object.keys(settings).sort())
  for (const [name, value] of Object.entries(settings)) {
    // `lameDuck.max` has the default of another option.
    const shown = table[name]?.replace('`min`', table['lameDuck.min'] ?? '')
    t.equal(shown?.replaceAll('`', '').replace(/(?<=\d),(?=\d)/, ''), describe(value), name)
  }
})

function section (title: string): string {
  return new RegExp(`^## ${title}\\n(.*?)^## `, 'ms').exec(readme)?.[1] ?? ''
}

function flatten (options: object, prefix = ''): Record<string, unknown> {
  return Object.assign({}, ...Object.entries(options).map(([name, value]) => {
    return typeof value === 'object' && !Array.isArray(value) ? flatten(value, `${prefix}${name}.`) : { [prefix + name]: value }
  }))
}

function describe (value: unknown): string {
  if (value === undefined) return 'none'
  return Array.isArray(value) ? `[${value.map((entry) => `'${entry}'`).join(', ')}]` : String(value)
}
