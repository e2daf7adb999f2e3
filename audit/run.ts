import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import packageJson from '../package.json' with { type: 'json' }
import allowed from './allowed.json' with { type: 'json' }
import { faultsOf, type Lock } from './faults.ts'
import knownBad from './known-bad.json' with { type: 'json' }

const root = join(import.meta.dirname, '..')

const files = globSync('**/package-lock.json', { cwd: root, exclude: path => ['node_modules', '.data', '.tap', '.verify', '.git', '.cache'].includes(basename(path)) }).toSorted()
let count = 0
for (const file of files) {
  const lock = JSON.parse(readFileSync(join(root, file), 'utf8')) as Lock
  const isOwn = file === 'package-lock.json'
  // Versions and scripts are only checked for what the service and its tests install.
  const faults = faultsOf(lock, { knownBad, allowed, scripts: isOwn ? packageJson.allowScripts : undefined, duplicates: isOwn })
  console.log(`${file}: ${Object.keys(lock.packages).length - 1} entries, ${faults.length} faults`)
  for (const fault of faults) console.log(`  - ${fault}`)
  count += faults.length
}
if (count > 0) {
  console.log('audit/known-bad.json lists what is refused, and audit/allowed.json what is allowed, each with the reason.')
  process.exitCode = 1
}
