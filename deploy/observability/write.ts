// Writes what Prometheus, Grafana and Argo Rollouts read, from objectives.ts, rules.ts, dashboards.ts and analyses.ts.
//
//   npm run observability

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { files } from './files.ts'

for (const [name, text] of Object.entries(files())) {
  const file = join(import.meta.dirname, '..', name)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text)
  console.log(`wrote deploy/${name}`)
}
