import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Changes a file of the fork at places that are known by their text. */
export class Edit {
  readonly #root: string
  readonly #path: string
  #text: string

  constructor (root: string, path: string) {
    this.#root = root
    this.#path = path
    this.#text = readFileSync(join(root, path), 'utf8')
  }

  /** @throws Error where the text is not there, or is there twice: the file is not the one that this was written for */
  replace (found: string, by: string): this {
    const pieces = this.#text.split(found)
    if (pieces.length !== 2) throw new Error(`${this.#path} has ${pieces.length - 1} places with "${found}"; fork/ expects one. Mend fork/ to follow that file.`)
    this.#text = pieces.join(by)
    return this
  }

  after (found: string, added: string): this {
    return this.replace(found, found + added)
  }

  before (found: string, added: string): this {
    return this.replace(found, added + found)
  }

  save (): void {
    writeFileSync(join(this.#root, this.#path), this.#text)
  }
}
