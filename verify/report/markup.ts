/** HTML that needs no escaping. */
export class Markup {
  readonly text: string

  constructor (text: string) {
    this.text = text
  }
}

type Value = string | number | Markup | null | undefined | readonly Value[]

/** Escapes every value of the template as text, unless it is Markup: keys, ids and bodies are the clients' data. */
export function html (strings: TemplateStringsArray, ...values: Value[]): Markup {
  return new Markup(String.raw({ raw: strings }, ...values.map(markupOf)))
}

function markupOf (value: Value): string {
  if (value === null || value === undefined) return ''
  if (value instanceof Markup) return value.text
  if (typeof value === 'object') return value.map(markupOf).join('')
  return String(value).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;').replaceAll("'", '&#39;')
}
