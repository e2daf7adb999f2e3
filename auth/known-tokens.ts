import { hash } from 'node:crypto'

/** The size of an entry without its customer's name, in bytes: digest, slots of the maps, object. */
const entryBytes = 300
const defaultMaxBytes = 8_388_608

export interface Known {
  customer: string
  /** In ms since 1970. */
  goodUntilMs: number
}

/**
 * Caches the identities of verified tokens. The key is the token's digest, so that a long token needs no more memory, and nobody can
 * read a usable token from memory. It evicts by halves: the least recently used entries go together.
 */
export class KnownTokens<Identity extends Known> {
  readonly #halfBytes: number
  #young = new Map<string, Identity>()
  #old = new Map<string, Identity>()
  #youngBytes = 0

  /** @param maxBytes the approximate size of all entries */
  constructor (maxBytes = defaultMaxBytes) {
    this.#halfBytes = maxBytes / 2
  }

  get size (): number {
    return this.#young.size + this.#old.size
  }

  /** undefined: unknown or expired. */
  find (token: string): Identity | undefined {
    const digest = digestOf(token)
    let identity = this.#young.get(digest)
    if (identity === undefined) {
      identity = this.#old.get(digest)
      if (identity !== undefined) {
        this.#old.delete(digest)
        this.#add(digest, identity)
      }
    }
    return identity !== undefined && Date.now() < identity.goodUntilMs ? identity : undefined
  }

  remember (token: string, identity: Identity): void {
    this.#add(digestOf(token), identity)
  }

  forgetAll (): void {
    this.#young.clear()
    this.#old.clear()
    this.#youngBytes = 0
  }

  #add (digest: string, identity: Identity): void {
    if (this.#youngBytes >= this.#halfBytes) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngBytes = 0
    }
    this.#young.set(digest, identity)
    this.#youngBytes += entryBytes + 2 * identity.customer.length
  }
}

function digestOf (token: string): string {
  return hash('sha256', token, 'base64')
}
