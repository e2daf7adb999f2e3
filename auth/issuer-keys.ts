import { createPublicKey } from 'node:crypto'
import { get as getPlain, type IncomingMessage } from 'node:http'
import { get as getSecure } from 'node:https'
import type { Algorithm } from 'fast-jwt'
import { verifierOf, type Expected, type Verify } from './verifier.ts'

/** In ms. */
export interface KeyTimes {
  /** How old the keys become before they are fetched again, in the background: a key that was withdrawn is refused after that. */
  refreshMs: number
  /** After a fetch, how long none is begun for a key that is not known, or because it failed. */
  cooldownMs: number
  /** How long a fetch may take; well below refreshMs. */
  timeoutMs: number
  /** How long keys are used while they cannot be fetched again. */
  staleMs: number
}

const defaultTimes: KeyTimes = { refreshMs: 60_000, cooldownMs: 10_000, timeoutMs: 5_000, staleMs: 3_600_000 }

export interface IssuerKeysOptions {
  url: string
  expected: Expected
  times?: Partial<KeyTimes> | undefined
  log: { info (details: object, message: string): void, warn (details: object, message: string): void }
  /** Called when a key was withdrawn, changed or added. */
  onChange: () => void
}

/** Thrown where nobody can say whether a token is good. */
export class KeysUnavailable extends Error {}

/**
 * The keys of an issuer: one document, fetched by one request at a time, in the background. A key that is known is at hand
 * without waiting, whatever the issuer does. (jose's createRemoteJWKSet lets requests wait once its keys are old, refuses
 * them while the issuer fails, and has no cooldown then.)
 */
export class IssuerKeys {
  readonly #options: Omit<IssuerKeysOptions, 'times'>
  readonly #times: KeyTimes
  readonly #closing = new AbortController()
  /** By algorithm and key id. */
  #verifiers = new Map<string, Verify>()
  #document = ''
  #fetchedAt = -Infinity
  #triedAt = -Infinity
  #goodUntil = -Infinity
  #hasFailed = false
  #fetching: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined

  constructor ({ times, ...options }: IssuerKeysOptions) {
    this.#options = options
    this.#times = { ...defaultTimes, ...times }
  }

  /** Whether the keys are young enough to be used, or as old as a failing issuer excuses. */
  get areGood (): boolean {
    return performance.now() < this.#goodUntil
  }

  /**
   * What verifies by this key; undefined: the issuer has none of that kind and id.
   *
   * @throws KeysUnavailable, also as a rejection
   */
  find (alg: string, kid: string): Verify | undefined | Promise<Verify | undefined> {
    if (!allAlgorithms.has(alg)) return undefined
    const id = idOf(alg, kid)
    return (this.areGood ? this.#verifiers.get(id) : undefined) ?? this.#lookAgain(id)
  }

  /** Fetches them, or waits for the fetch that is under way. Never rejects. */
  async refresh (): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => { this.#fetching = undefined })
    await this.#fetching
  }

  /** Aborts the fetch that is under way. */
  close (): void {
    this.#closing.abort()
    clearTimeout(this.#timer)
  }

  async #lookAgain (id: string): Promise<Verify | undefined> {
    const hasCooled = performance.now() - this.#triedAt >= this.#times.cooldownMs
    // Keys that are too old though no fetch has failed are those of a process that was paused.
    if (hasCooled || !(this.areGood || this.#hasFailed)) await this.refresh()
    else await this.#fetching
    const verify = this.#verifiers.get(id)
    // Where it failed the issuer may have the key by now. Where it did not, what it gave is as new as can be.
    if (this.#hasFailed && (verify === undefined || !this.areGood)) throw new KeysUnavailable()
    return verify
  }

  async #fetch (): Promise<void> {
    const { url, log } = this.#options
    const { refreshMs, cooldownMs, timeoutMs, staleMs } = this.#times
    clearTimeout(this.#timer)
    const startedAt = this.#triedAt = performance.now()
    try {
      this.#take(await fetchKeys(url, timeoutMs, this.#closing.signal))
      this.#fetchedAt = startedAt
      // Twice: until the next fetch has succeeded or failed, and not for as long as a process that was paused sleeps.
      this.#goodUntil = startedAt + 2 * refreshMs
      this.#hasFailed = false
    } catch (error) {
      this.#hasFailed = true
      this.#goodUntil = this.#fetchedAt + staleMs
      if (this.#closing.signal.aborted) return
      log.warn({ err: error, keysAgeMs: this.#fetchedAt === -Infinity ? null : Math.round(startedAt - this.#fetchedAt) }, this.areGood
        ? `The keys of the issuer could not be fetched. Those that are known are used until they are ${staleMs / 60_000} minutes old.`
        : 'The keys of the issuer could not be fetched. No token can be checked.')
    }
    if (!this.#closing.signal.aborted) this.#timer = setTimeout(() => { void this.refresh() }, this.#hasFailed ? cooldownMs : refreshMs).unref()
  }

  #take (keys: unknown[]): void {
    const document = JSON.stringify(keys)
    if (document === this.#document) return
    const { expected, log, onChange } = this.#options
    this.#verifiers = new Map(keys.flatMap(key => verifiersOf(key, expected)))
    this.#document = document
    onChange()
    log.info({ keys: [...this.#verifiers.keys()] }, 'The keys of the issuer were fetched and are new.')
  }
}

/** What a document may have, in bytes. */
const documentMax = 1_048_576

/**
 * The keys of a JSON Web Key Set. Not by fetch(), which keeps its connections: a stop would leave one behind. A redirect is
 * not followed: the setting says where the keys are.
 *
 * @throws an error whose message is a clause about AUTH_JWKS_URL
 */
export async function fetchKeys (url: string, timeoutMs: number, signal?: AbortSignal): Promise<unknown[]> {
  const timeout = new AbortController()
  const timer = setTimeout(() => timeout.abort(), timeoutMs)
  const abort = (): void => timeout.abort()
  signal?.addEventListener('abort', abort)
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const get = url.startsWith('https:') ? getSecure : getPlain
      get(url, { agent: false, headers: { accept: 'application/jwk-set+json, application/json', connection: 'close' }, signal: timeout.signal }, resolve).on('error', reject)
    })
    if (response.statusCode !== 200) {
      response.destroy()
      throw new NoKeys(`AUTH_JWKS_URL answered ${response.statusCode}`)
    }
    return keysOf(await textOf(response))
  } catch (error) {
    if (error instanceof NoKeys) throw error
    if (timeout.signal.aborted) throw new NoKeys(`AUTH_JWKS_URL did not answer within ${timeoutMs} ms`)
    throw new NoKeys(`AUTH_JWKS_URL cannot be reached: ${error instanceof Error && 'code' in error ? String(error.code) : String(error)}`)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

class NoKeys extends Error {}

async function textOf (response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8')
  let text = ''
  for await (const chunk of response) {
    text += String(chunk)
    if (text.length > documentMax) throw new NoKeys(`AUTH_JWKS_URL answered more than ${documentMax} bytes`)
  }
  return text
}

function keysOf (text: string): unknown[] {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {}
  if (typeof document !== 'object' || document === null || !('keys' in document) || !Array.isArray(document.keys)) throw new NoKeys('AUTH_JWKS_URL did not answer with a JSON Web Key Set')
  return document.keys
}

const algorithmsOf = new Map<string, Algorithm[]>([
  ['RSA', ['RS256', 'PS256']],
  ['EC P-256', ['ES256']],
  ['OKP Ed25519', ['EdDSA']],
  ['OKP Ed448', ['EdDSA']]
])
const allAlgorithms = new Set<string>([...algorithmsOf.values()].flat())

function idOf (alg: string, kid: string): string {
  return `${alg} ${kid}`
}

/** What verifies by a key, for each algorithm that it is for; none where it cannot be used, as RFC 7517 section 5 has it. */
function verifiersOf (jwk: unknown, expected: Expected): Array<[id: string, verify: Verify]> {
  if (typeof jwk !== 'object' || jwk === null) return []
  const { kty, kid, crv, use, key_ops: operations, alg, n, e, x, y }: Record<string, unknown> = { ...jwk }
  const algorithms = algorithmsOf.get([kty, crv ?? []].flat().join(' '))?.filter(algorithm => alg === undefined || alg === algorithm) ?? []
  if (typeof kid !== 'string' || (use !== undefined && use !== 'sig') || (Array.isArray(operations) && !operations.includes('verify'))) return []
  try {
    const members = Object.entries({ kty, crv, n, e, x, y }).flatMap(([name, value]) => typeof value === 'string' ? [[name, value]] : [])
    const key = createPublicKey({ key: Object.fromEntries(members), format: 'jwk' })
    // RFC 7518 section 3.3.
    if ((key.asymmetricKeyDetails?.modulusLength ?? 2_048) < 2_048) return []
    const pem = key.export({ type: 'spki', format: 'pem' }).toString()
    return algorithms.map(algorithm => [idOf(algorithm, kid), verifierOf(pem, [algorithm], expected)])
  } catch {
    return []
  }
}
