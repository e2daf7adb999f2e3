/**
 * The password for the next connection. It is asked for at each, so that one that is rotated reaches them without a restart. The
 * place that it comes from and the database never change at the same moment: until both have, the one before may be the one.
 */
export class DatabasePassword {
  readonly #read: () => string
  #newest: string
  #before: string | undefined
  #prefersBefore = false

  /** @param read gives the password as it is set at this moment */
  constructor (read: () => string) {
    this.#read = read
    this.#newest = read()
  }

  next (): string {
    this.#look()
    return this.#prefersBefore && this.#before !== undefined ? this.#before : this.#newest
  }

  /** The database refused the last one. @returns whether the next is another one */
  refused (): boolean {
    const isNew = this.#look()
    if (!isNew) this.#prefersBefore = !this.#prefersBefore && this.#before !== undefined
    return this.#before !== undefined
  }

  /** @returns whether it was set to another one */
  #look (): boolean {
    const password = this.#read()
    if (password === this.#newest) return false
    this.#before = this.#newest
    this.#newest = password
    this.#prefersBefore = false
    return true
  }
}
