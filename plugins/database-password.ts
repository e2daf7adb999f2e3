/**
 * The password for the next connection. It is read for each one, so that a rotation needs no restart. Its source and the
 * database never change at the same moment: until both have changed, the previous password may be the valid one.
 */
export class DatabasePassword {
  readonly #read: () => string
  #newest: string
  #before: string | undefined
  #prefersBefore = false

  /** @param read returns the password that is set now */
  constructor (read: () => string) {
    this.#read = read
    this.#newest = read()
  }

  next (): string {
    this.#look()
    return this.#prefersBefore && this.#before !== undefined ? this.#before : this.#newest
  }

  /** Call it when the database refused the last one. @returns whether there is another to try */
  refused (): boolean {
    const isNew = this.#look()
    if (!isNew) this.#prefersBefore = !this.#prefersBefore && this.#before !== undefined
    return this.#before !== undefined
  }

  /** @returns whether the source has a new one */
  #look (): boolean {
    const password = this.#read()
    if (password === this.#newest) return false
    this.#before = this.#newest
    this.#newest = password
    this.#prefersBefore = false
    return true
  }
}
