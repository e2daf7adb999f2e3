/** The keywords that ../description.schema.json uses. */
export interface Schema {
  readonly $ref?: string
  readonly description?: string
  readonly examples?: readonly unknown[]
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly pattern?: string
  readonly minimum?: number
  readonly exclusiveMinimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly required?: readonly string[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: boolean | Schema
  readonly items?: Schema
  /** Only used as: one of these must be there. */
  readonly oneOf?: ReadonlyArray<{ readonly required: readonly [string] }>
  readonly $defs?: Readonly<Record<string, Schema>>
}

export type Path = ReadonlyArray<string | number>

export interface Fault {
  readonly path: Path
  /** A sentence with a correct example. */
  readonly says: string
}

/** Finds all faults of a document. Ajv would find the same, but it names keywords, and a person needs an example. */
export function validate (document: unknown, schema: Schema): Fault[] {
  return faultsOf(document, schema, schema, [])
}

/** requests.place.headers, prepare[1].sql */
export function nameOf (path: Path): string {
  return path.map((part, i) => typeof part === 'number' ? `[${part}]` : /^[\w$-]+$/.test(part) ? `${i === 0 ? '' : '.'}${part}` : `["${part}"]`).join('') || 'the description'
}

function faultsOf (value: unknown, given: Schema, root: Schema, path: Path): Fault[] {
  const schema = resolve(given, root)
  const wrong = (): Fault[] => [{ path, says: `${nameOf(path)} is ${short(value)}. It takes ${taken(schema)}${example(schema, path)}` }]
  if (schema.enum !== undefined) return schema.enum.includes(value) ? [] : wrong()
  if (schema.type !== undefined && ![schema.type].flat().some(type => isOf(type, value))) return wrong()
  if (typeof value === 'string' && schema.pattern !== undefined && !new RegExp(schema.pattern).test(value)) return wrong()
  if (typeof value === 'number' && !isInRange(value, schema)) return wrong()
  if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0)) return wrong()
    return schema.items === undefined ? [] : value.flatMap((element, i) => faultsOf(element, schema.items ?? {}, root, [...path, i]))
  }
  if (typeof value !== 'object' || value === null) return []
  return [...faultsOfParts(value, schema, root, path), ...faultsOfChoice(value, schema, path)]
}

function faultsOfParts (value: object, { required = [], properties = {}, additionalProperties = true }: Schema, root: Schema, path: Path): Fault[] {
  const missing = required.filter(name => !Object.hasOwn(value, name)).map((name): Fault => {
    const part = resolve(properties[name] ?? {}, root)
    return { path, says: `${nameOf([...path, name])} is missing. ${part.description ?? `It takes ${taken(part)}.`}${example(part, [...path, name], ' For')}` }
  })
  return [...missing, ...Object.entries(value).flatMap(([name, part]): Fault[] => {
    const schema = Object.hasOwn(properties, name) ? properties[name] : typeof additionalProperties === 'object' ? additionalProperties : undefined
    if (schema !== undefined) return faultsOf(part, schema, root, [...path, name])
    if (additionalProperties !== false) return []
    return [{ path: [...path, name], says: `${nameOf([...path, name])} is not known. ${path.length === 0 ? 'A description' : nameOf(path)} takes ${Object.keys(properties).join(', ')}.` }]
  })]
}

function faultsOfChoice (value: object, { oneOf, ...schema }: Schema, path: Path): Fault[] {
  if (oneOf === undefined) return []
  const names = oneOf.map(({ required: [name] }) => name)
  const there = names.filter(name => Object.hasOwn(value, name))
  if (there.length === 1) return []
  return [{ path, says: `${nameOf(path)} has ${there.length === 0 ? 'none' : there.length} of ${names.join(', ')}. It takes exactly one${example(schema, path)}` }]
}

function resolve (schema: Schema, root: Schema): Schema {
  if (schema.$ref === undefined) return schema
  const { $ref, ...own } = schema
  return { ...resolve(root.$defs?.[$ref.slice('#/$defs/'.length)] ?? {}, root), ...own }
}

function isOf (type: string, value: unknown): boolean {
  switch (type) {
    case 'array': return Array.isArray(value)
    case 'object': return typeof value === 'object' && value !== null && !Array.isArray(value)
    case 'integer': return Number.isSafeInteger(value)
    case 'number': return Number.isFinite(value)
    case 'string': return typeof value === 'string'
    default: return typeof value === 'boolean'
  }
}

function isInRange (value: number, { minimum = -Infinity, exclusiveMinimum = -Infinity, maximum = Infinity }: Schema): boolean {
  return value >= minimum && value > exclusiveMinimum && value <= maximum
}

const typeWords: Readonly<Record<string, string>> = {
  array: 'a list', object: 'an object', string: 'a text', number: 'a number', integer: 'a whole number', boolean: 'true or false'
}
const patternWords: Readonly<Record<string, string>> = {
  '^/': ' that begins with "/"',
  '^(/|$)': ' that begins with "/"',
  '^(/|$|Location$)': ' that begins with "/", or is "Location"',
  '^[A-Z]{3}$': ' of three capital letters',
  '^(GET|POST|PUT|PATCH|DELETE) /': ' "METHOD /path"'
}

function taken (schema: Schema): string {
  if (schema.enum !== undefined) return `one of ${schema.enum.join(', ')}`
  const types = [schema.type ?? []].flat().map(type => {
    if (type === 'string' && schema.pattern !== undefined) return `a text${patternWords[schema.pattern] ?? ` that matches ${schema.pattern}`}`
    if (type === 'array' && schema.minItems !== undefined) return 'a list that is not empty'
    return typeWords[type] ?? type
  })
  const range = [
    ...schema.minimum === undefined ? [] : [`from ${schema.minimum}`],
    ...schema.exclusiveMinimum === undefined ? [] : [`above ${schema.exclusiveMinimum}`],
    ...schema.maximum === undefined ? [] : [`to ${schema.maximum}`]
  ]
  return [types.join(' or '), ...range].join(' ')
}

function example ({ examples: [first] = [] }: Schema, path: Path, lead = ', for'): string {
  if (first === undefined) return lead === ', for' ? '.' : ''
  const name = path.findLast(part => typeof part === 'string')
  return `${lead} example ${typeof path.at(-1) === 'string' && name !== undefined ? `${name}: ` : ''}${JSON.stringify(first)}`
}

function short (value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}
