import { hash } from 'node:crypto'

/** What an entry takes beside its customer's name, in bytes: digest, sets' slots, object. */
const entryBytes = 300
const defaultMaxBytes = 8_388_608

export interface Known {
  customer: string
  /** In ms since 1970. */
  goodUntilMs: number
}

/**
 * Who was found behind which token, so that it is not verified again. By the token's digest: the entry of a long token is as
 * small as any, and the memory holds nothing that could be sent. Of those that were not used for longest half go at once.
 */
export class KnownTokens<Identity extends Known> {
  readonly #halfBytes: number
  #young = new Map<string, Identity>()
  #old = new Map<string, Identity>()
  #youngBytes = 0

  /** @param maxBytes of all entries, about */
  constructor (maxBytes = defaultMaxBytes) {
    this.#halfBytes = maxBytes / 2
  }

  get size (): number {
    return this.#young.size + this.#old.size
  }

  /** undefined: not known, or no longer good. */
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
