/** Longer, and a line of the log says less. */
const LONGEST_SOURCE = 60

/** The name of a function of the user's, or how it begins: what a log can call it. */
export function functionName (given: { readonly name: string, toString: () => string }): string {
  const name = given.name.replace(/^bound /, '')
  if (name !== '') return name
  const source = String(given).replace(/\s+/g, ' ')
  if (source.includes('[native code]')) return 'a function without a name'
  return source.length > LONGEST_SOURCE ? `${source.slice(0, LONGEST_SOURCE)}…` : source
}

/** A function that stands in for another bears its name: `printRoutes()`, logs and traces show it. */
export function named<Function extends object> (given: { readonly name: string }, standIn: Function): Function {
  return Object.defineProperty(standIn, 'name', { value: given.name, configurable: true })
}
