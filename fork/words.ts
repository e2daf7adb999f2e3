import type { ForkOptions } from './arguments.ts'

/** Turns the words of this service into those of the fork, in what files say and in what they are called. */
export interface Words {
  /** The name of the service alone. */
  inName (text: string): string
  inText (text: string): string
  inPath (path: string): string
}

export function wordsOf ({ name, resource, plural }: Pick<ForkOptions, 'name' | 'resource' | 'plural'>): Words {
  const title = name.split('-').map(capitalized).join(' ')
  const article = /^[aeiou]/.test(resource) ? 'an' : 'a'
  const noun = (many: string | undefined): string => many === undefined ? resource : plural
  const inPath = (path: string): string => path
    .replaceAll('last-orders', name)
    .replace(/lock-order|(?<![a-z])order(s(?![a-z]))?/g, (found, many?: string) => found === 'lock-order' ? found : noun(many))
  const inName = (text: string): string => text.replaceAll('last-orders', name).replaceAll('Last Orders', title).replaceAll('last_orders', name.replaceAll('-', '_'))
  const inText = (text: string): string => inName(text)
    // The verb.
    .replace(/\bmayOrder\b/g, `mayPlace${capitalized(plural)}`)
    .replace(/\b(may|cannot|can|not) order\b(?! by)/g, `$1 place ${article} ${resource}`)
    .replace(/\b([Aa])n([ -])(?=orders?\b)/g, article === 'an' ? '$&' : '$1$2')
    // What has nothing to do with it: sequences, and the programs that wait for one another.
    .replace(/\b(?:in(?: another| any| one| the same| their| which)?|out of|lock)[ -]order\b|(?<![a-z])(?<!stackY\(\{ )order(?!By\b| by\b|ed\b|ing\b)(s(?![a-z]))?/g, (found, many?: string) => /^(?:in|out|lock)/.test(found) ? found : noun(many))
    .replace(/Order(?!By\b|ed\b|ing\b)(s(?![a-z]))?/g, (_, many?: string) => capitalized(noun(many)))
    .replace(/ORDER(?! BY)(S(?![A-Z]))?/g, (_, many?: string) => noun(many).toUpperCase())
  return { inName, inText, inPath }
}

export function capitalized (word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1)
}
