import { existsSync, globSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { ForkOptions } from './arguments.ts'
import { forms } from './fields.ts'

/** Writes what only a fork can say of itself, and takes the links to what it has not out of the other documents. */
export function writeDocuments (root: string, { fields, without }: Pick<ForkOptions, 'fields' | 'without'>): void {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  const body = JSON.stringify({ currency: 'EUR', items: [{ sku: 'ale-pint', quantity: 2 }], ...Object.fromEntries(fields.map(({ name, type }) => [name, forms[type].examples[0]])) })
  writeFileSync(join(root, 'README.md'), `# Last Orders

An order service on Fastify, Prisma and Postgres. What it acknowledged is stored, once, also when it is told to stop.

\`\`\`
npm ci && npm start
npm ci && npm test
\`\`\`

The first command brings a PostgreSQL along and prints a \`curl\` line that places an order. The second tests against one.

\`\`\`
curl -i localhost:3000/orders -H "Authorization: Bearer $(npm run -s token -- --sub alice)" -H 'Idempotency-Key: my-first' -H 'Content-Type: application/json' -d '${body}'
\`\`\`

\`kill -TERM\` stops it: it drains, and exits with 0 when nothing that it had begun was abandoned. \`docker compose up --build --wait\` runs it in containers.
${without.includes('verify') ? '' : '\n`npm run verify` proves it: load, SIGTERM again and again, and what clients were told is judged against what Postgres holds.\n'}
${section(readme, 'Settings')}
${commands(section(readme, 'Commands'), scripts)}
## Reading it

[ARCHITECTURE.md](ARCHITECTURE.md) has the promises and where things live, [docs](docs) how to run it and why it is as it is, [CONTRIBUTING.md](CONTRIBUTING.md) how to change it.
`)
  writeFileSync(join(root, 'CHANGELOG.md'), '# Changelog\n\n## Unreleased\n\n- The service, from its template.\n')
  const architecture = join(root, 'ARCHITECTURE.md')
  writeFileSync(architecture, readFileSync(architecture, 'utf8').replace(/^\| `(verify|bench|deploy)\/`.*\n/gm, (row, folder: string) => without.some(part => part === folder) ? '' : row))
  for (const path of globSync('**/*.md', { cwd: root, exclude: path => /node_modules|plugins\/drain/.test(path) })) {
    const file = join(root, path)
    writeFileSync(file, readFileSync(file, 'utf8').replace(/\[([^\]]+)\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g, (link, text: string, target: string) => existsSync(join(dirname(file), target)) ? link : text))
  }
}

function section (document: string, heading: string): string {
  const from = document.indexOf(`## ${heading}\n`)
  if (from === -1) throw new Error(`README.md has no section "${heading}". Mend fork/ to follow it.`)
  const next = document.indexOf('\n## ', from + 1)
  return document.slice(from, next === -1 ? undefined : next)
}

/** A row is kept where the scripts that it names are there. */
function commands (table: string, scripts: Record<string, string>): string {
  return table.split('\n').filter(row => {
    const first = /^\| ([^|]*)\|/.exec(row)?.[1] ?? ''
    if (/`npx node bench\//.test(first) && scripts.bench === undefined) return false
    return [...first.matchAll(/npm run (?:-s )?([\w:-]+)/g)].every(([, name = '']) => name in scripts)
  }).join('\n')
}
