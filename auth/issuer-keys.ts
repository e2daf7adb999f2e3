import { createPublicKey } from 'node:crypto'
import { get as getPlain, type IncomingMessage } from 'node:http'
import { get as getSecure } from 'node:https'
import type { Algorithm } from 'fast-jwt'
import { verifierOf, type Expected, type Verify } from './verifier.ts'

/** In ms. */
export interface KeyTimes {
  /** The age at which the keys are fetched again, in the background. After that a withdrawn key is refused. */
  refreshMs: number
  /** The pause after a fetch before the next one, for an unknown key or after a failure. */
  cooldownMs: number
  /** How long a fetch may take; well below refreshMs. */
  timeoutMs: number
  /** The age up to which keys are used while fetching fails. */
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

/** Thrown if the keys that would verify a token cannot be fetched. */
export class KeysUnavailable extends Error {}

/**
 * The keys of an issuer: one document, fetched by one request at a time, in the background. A known key needs no waiting,
 * whatever the issuer does. (With jose's createRemoteJWKSet, requests wait once its keys are old. It refuses them while the issuer
 * fails, and then has no cooldown.)
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

  /** Whether the keys may be used: up to staleMs old while fetching fails. */
  get areGood (): boolean {
    return performance.now() < this.#goodUntil
  }

  /**
   * The verifier for a key; undefined if the issuer has none with this algorithm and id.
   *
   * @throws KeysUnavailable, also as a rejection
   */
  find (alg: string, kid: string): Verify | undefined | Promise<Verify | undefined> {
    if (!allAlgorithms.has(alg)) return undefined
    const id = idOf(alg, kid)
    return (this.areGood ? this.#verifiers.get(id) : undefined) ?? this.#lookAgain(id)
  }

  /** Fetches the keys, or waits for the fetch under way. Never rejects. */
  async refresh (): Promise<void> {
    this.#fetching ??= this.#fetch().finally(() => { this.#fetching = undefined })
    await this.#fetching
  }

  /** Aborts the fetch under way. */
  close (): void {
    this.#closing.abort()
    clearTimeout(this.#timer)
  }

  async #lookAgain (id: string): Promise<Verify | undefined> {
    const hasCooled = performance.now() - this.#triedAt >= this.#times.cooldownMs
    // If the keys are too old although no fetch has failed, the process was paused.
    if (hasCooled || !(this.areGood || this.#hasFailed)) await this.refresh()
    else await this.#fetching
    const verify = this.#verifiers.get(id)
    // After a failed fetch the issuer may have the key. After a successful one, its keys are up to date.
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
      // Twice refreshMs lasts until the next fetch has ended, but not through a long pause of the process.
      this.#goodUntil = startedAt + 2 * refreshMs
      this.#hasFailed = false
    } catch (error) {
      this.#hasFailed = true
      this.#goodUntil = this.#fetchedAt + staleMs
      if (this.#closing.signal.aborted) return
      log.warn({ err: error, keysAgeMs: this.#fetchedAt === -Infinity ? null : Math.round(startedAt - this.#fetchedAt) }, this.areGood
        ? `The keys of the issuer could not be fetched. The service uses those that it has until they are ${staleMs / 60_000} minutes old.`
        : 'The keys of the issuer could not be fetched. The service cannot check any token.')
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
    log.info({ keys: [...this.#verifiers.keys()] }, 'The issuer has new keys.')
  }
}

/** The largest document, in bytes. */
const documentMax = 1_048_576

/**
 * The keys of a JSON Web Key Set. It does not use fetch(), whose kept connections would outlive a stop. It follows no redirect,
 * because the setting says where the keys are.
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

/** A verifier for each algorithm of a key; none if the key cannot be used (RFC 7517 section 5). */
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
