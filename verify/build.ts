import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'

// Builds what `npm pack` packs. Node strips no types below node_modules, so the package is JavaScript. It has the folders of the
// repository below dist, so that relative paths stay the same.

const root = join(import.meta.dirname, '..')
const dist = join(import.meta.dirname, 'dist')

const assets = ['verify/description.schema.json', 'verify/report/page.css', 'deploy/haproxy/haproxy.cfg', 'deploy/haproxy/postgres.cfg', 'deploy/nginx/last-orders.conf']

rmSync(dist, { recursive: true, force: true })
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(import.meta.dirname, 'tsconfig.build.json')], { stdio: 'inherit' })
for (const asset of assets) cpSync(join(root, asset), join(dist, asset))
chmodSync(join(dist, 'verify/bin.js'), 0o755)
