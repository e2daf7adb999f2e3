import { readFile } from 'node:fs/promises'
import t from 'tap'
import { readOptions } from '../dist/options.js'

const readme = await text('README.md')

t.test('the README shows the code of the example, line for line', async t => {
  const shown = /^```js\n(.*?)^```/ms.exec(section('Use'))?.[1]?.split('\n').filter(line => line !== '') ?? []
  const example = (await text('example.ts')).split('\n')
  t.ok(shown.length >= 9)
  t.same(shown, example.filter(line => shown.includes(line)))
})

t.test('the README names every option with its default', async t => {
  const table = Object.fromEntries([...section('Options').matchAll(/^\| `([\w.]+)` \|.*?\| (.+?) \|/gm)].map(([, name, value]) => [name, value]))
  const settings = flatten(readOptions({}))
  t.same(Object.keys(table).sort(), Object.keys(settings).sort())
  for (const [name, value] of Object.entries(settings)) {
    // `lameDuck.max` has the default of another option.
    const shown = table[name]?.replace('`min`', table['lameDuck.min'] ?? '')
    t.equal(shown?.replaceAll('`', '').replace(/(?<=\d),(?=\d)/, ''), describe(value), name)
  }
})

t.test('the README installs the tarball of the version that package.json names', async t => {
  const { name, version } = JSON.parse(await text('package.json'))
  t.same(section('Install').match(/[\w-]+-[\d.]+\.tgz/g), [`${name}-${version}.tgz`])
})

t.test('the README shows five rows of GAUNTLET.md unchanged', async t => {
  const [all, shown] = [gauntletIn(await text('GAUNTLET.md')), gauntletIn(readme)]
  const above = ['', '---']
  t.equal(shown.size, above.length + 5)
  for (const [name, cells] of shown) t.same(cells, all.get(name), name)
})

function text (name: string): Promise<string> {
  return readFile(new URL(`../${name}`, import.meta.url), 'utf8')
}

/** The outcomes by case. In the README the name of a case is in backticks, followed by its meaning. */
function gauntletIn (markdown: string): Map<string, string[]> {
  const [table = ''] = markdown.slice(markdown.indexOf('\n|  | ')).trimStart().split('\n\n')
  return new Map(table.split('\n').map(line => {
    const [first = '', ...cells] = line.split(' | ')
    return [/`(.+?)`/.exec(first)?.[1] ?? first.slice(2), cells]
  }))
}

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
  return Array.isArray(value) ? `[${value.map(entry => `'${entry}'`).join(', ')}]` : String(value)
}
