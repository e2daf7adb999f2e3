/** The contents of {{…}}: a name, or a path of names. */
export type Values = Readonly<Record<string, unknown>>

const anywhere = /\{\{([^{}]*)\}\}/g
const nothingElse = /^\{\{([^{}]*)\}\}$/
const repeated = '$each'

/** Every path that a template takes from its values. */
export function pathsIn (template: unknown): string[] {
  if (typeof template === 'string') return Array.from(template.matchAll(anywhere), ([, path = '']) => path.trim())
  if (typeof template !== 'object' || template === null) return []
  return Object.values(template).flatMap(pathsIn)
}

/**
 * Replaces each {{…}} of a template by its value. A text that is only one {{…}} becomes the value itself; absent values are
 * left out.
 */
export function fill (template: unknown, values: Values): unknown {
  if (typeof template === 'string') {
    const [, whole] = nothingElse.exec(template) ?? []
    return whole === undefined ? fillText(template, values) : valueOf(values, whole)
  }
  if (Array.isArray(template)) return template.flatMap(element => fillElement(element, values))
  if (typeof template !== 'object' || template === null) return template
  return Object.fromEntries(Object.entries(template).flatMap(([name, part]) => {
    const filled = fill(part, values)
    return filled === undefined ? [] : [[name, filled]]
  }))
}

/** The same for a text, which stays a text. @param write how to write a value in it */
export function fillText (template: string, values: Values, write: (value: unknown) => string = text): string {
  return template.replace(anywhere, (_, path: string) => write(valueOf(values, path)))
}

/** undefined if the template is only an absent value, so that it is left out. */
export function fillOptional (template: string | number | boolean, values: Values): string | undefined {
  const filled = fill(template, values)
  return filled === undefined ? undefined : text(filled)
}

/** A value as text; JSON if it is not text. */
export function text (value: unknown): string {
  return typeof value === 'string' ? value : value === undefined || value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value)
}

function fillElement (element: unknown, values: Values): unknown[] {
  if (typeof element !== 'object' || element === null || !Object.hasOwn(element, repeated)) {
    const filled = fill(element, values)
    return filled === undefined ? [] : [filled]
  }
  const { [repeated]: of, ...each } = element as Record<string, unknown>
  const items = fill(of, values)
  return Array.isArray(items) ? items.map(item => fill(each, { ...values, item })) : []
}

function valueOf (values: Values, path: string): unknown {
  return path.trim().split('.').reduce<unknown>((value, name) => {
    return typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
  }, values)
}
