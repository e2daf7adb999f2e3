/** A longer name makes a line of the log harder to read. */
const longestSource = 60

/** What a log calls a function of the application: its name, or the beginning of its source. */
export function functionName (given: { readonly name: string, toString: () => string }): string {
  const name = given.name.replace(/^bound /, '')
  if (name !== '') return name
  const source = String(given).replace(/\s+/g, ' ')
  if (source.includes('[native code]')) return 'a function without a name'
  return source.length > longestSource ? `${source.slice(0, longestSource)}…` : source
}

/** Gives a wrapper the name of the wrapped function, which `printRoutes()`, logs and traces show. */
export function named<Function extends object> (given: { readonly name: string }, standIn: Function): Function {
  return Object.defineProperty(standIn, 'name', { value: given.name, configurable: true })
}
