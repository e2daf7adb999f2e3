import { Ajv, type ValidateFunction } from 'ajv'
import type { KubernetesObject } from './kubectl.ts'

interface Model { prototype: { validate (this: unknown): void } }

/** The packages that know the kinds of a group; all other groups are Kubernetes's own. */
const packages: Record<string, string[]> = {
  'argoproj.io': ['@kubernetes-models/argo-cd', '@kubernetes-models/argo-rollouts'],
  'monitoring.coreos.com': ['@kubernetes-models/prometheus-operator'],
  'external-secrets.io': ['@kubernetes-models/external-secrets'],
  'postgresql.cnpg.io': ['@kubernetes-models/cloudnative-pg']
}

const text = { type: 'string' }

/** The `spec` of kinds that no package knows, as their CustomResourceDefinition has it. */
const specs: Record<string, object> = {
  'secrets-store.csi.x-k8s.io/v1 SecretProviderClass': {
    type: 'object',
    additionalProperties: false,
    required: ['provider'],
    properties: { provider: text, parameters: { type: 'object', additionalProperties: text }, secretObjects: { type: 'array' } }
  }
}

/** The faults of an object by its schema: missing fields, wrong types, unknown keys. */
export async function faultsOf (object: KubernetesObject): Promise<string[]> {
  const label = `${object.kind} ${object.metadata.name}`
  const spec = specs[`${object.apiVersion} ${object.kind}`]
  if (spec !== undefined) {
    return errorsOf(new Ajv({ allErrors: true }).compile(spec), object.spec).map(error => `${label}: /spec${error}`)
  }
  const model = await modelOf(object)
  if (model === undefined) return [`${label}: nothing is known of ${object.kind} in ${object.apiVersion}`]

  const { watched, unread } = watch(object)
  try {
    model.prototype.validate.call(watched)
  } catch (error) {
    return [`${label}: ${error instanceof Error ? error.message : String(error)}`]
  }
  return unread().map(path => `${label}: ${path} is not in its schema`)
}

/** The errors of a JSON schema in words, with the names of unknown properties. */
export function errorsOf (validate: ValidateFunction, value: unknown): string[] {
  validate(value)
  return (validate.errors ?? []).map(({ instancePath, message, params }) => `${instancePath} ${message}${'additionalProperty' in params ? `: ${params.additionalProperty}` : ''}`)
}

async function modelOf ({ apiVersion, kind }: KubernetesObject): Promise<Model | undefined> {
  const [version = '', group = version] = apiVersion.split('/').reverse()
  for (const name of packages[group] ?? ['kubernetes-models']) {
    const models = await import(`${name}/${apiVersion}`).catch(() => ({})) as Record<string, Model>
    if (models[kind] !== undefined) return models[kind]
  }
}

/**
 * Notes which keys the validator reads. The packages contain no schema, only code compiled from one, which ignores unknown keys:
 * a key that it never reads is unknown. If it reads no key of an object, the schema has no properties and allows any.
 */
function watch (root: object): { watched: object, unread: () => string[] } {
  const seen: Array<{ path: string, object: object, read: Set<string> }> = []

  function watchAt (path: string, object: object): object {
    const read = new Set<string>()
    seen.push({ path, object, read })
    const parts = new Map<string, object>()
    return new Proxy(object, {
      get (target, key) {
        const value: unknown = Reflect.get(target, key)
        if (typeof key === 'symbol') return value
        read.add(key)
        if (typeof value !== 'object' || value === null) return value
        const part = parts.get(key) ?? watchAt(`${path}/${key}`, value)
        parts.set(key, part)
        return part
      }
    })
  }

  return {
    watched: watchAt('', root),
    unread: () => seen.flatMap(({ path, object, read }) => {
      if (read.size === 0) return []
      return Object.keys(object).filter(key => !read.has(key)).map(key => `${path}/${key}`)
    })
  }
}
