import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { settingsOf } from './files.ts'
import { part } from './http.ts'
import type { KeyService } from './key-services.ts'

/** The format of the file. Only this version of the format can be read. */
const format = 'last-orders-sealed-1'

const cipher = 'aes-256-gcm'
const dataKeyBytes = 32
/** NIST SP 800-38D: 96 bits, never twice with one key. Each file has a key of its own. */
const nonceBytes = 12

/** The fault of a sealed file, as a clause. It quotes nothing from the file's settings. */
export class SealedError extends Error {
  override readonly name = 'SealedError'
}

/**
 * Encrypts settings, so that others may read the file. Each file has a key of its own, which a key service encrypts with a key that
 * never leaves it (envelope encryption). The file is bound to its environment, and opens in no other.
 */
export async function seal (text: string, environment: string, keys: KeyService): Promise<string> {
  const names = Object.keys(settingsOf(text)).sort()
  const dataKey = randomBytes(dataKeyBytes)
  const nonce = randomBytes(nonceBytes)
  const head = { format, environment, names, key: { service: keys.name, wrapped: (await keys.wrap(dataKey, environment)).toString('base64') } }
  const sealing = createCipheriv(cipher, dataKey, nonce).setAAD(boundTo(environment))
  const data = Buffer.concat([sealing.update(text, 'utf8'), sealing.final()])
  dataKey.fill(0)
  return `${JSON.stringify({ ...head, nonce: nonce.toString('base64'), tag: sealing.getAuthTag().toString('base64'), data: data.toString('base64') }, null, 2)}\n`
}

/** @throws SealedError */
export async function unseal (file: string, environment: string, keysOf: (service: string) => KeyService): Promise<Record<string, string>> {
  const content = parsed(file)
  if (part(content, 'format') !== format) throw new SealedError(`it is not of the format ${format}`)
  const sealedFor = textOf(content, 'environment')
  if (sealedFor !== environment) throw new SealedError(`it is sealed for the environment "${sealedFor}", and this is "${environment}"`)
  const [nonce, tag, data] = ['nonce', 'tag', 'data'].map(name => Buffer.from(textOf(content, name), 'base64'))
  const dataKey = await keysOf(textOf(content, 'key', 'service')).unwrap(Buffer.from(textOf(content, 'key', 'wrapped'), 'base64'), environment)
  try {
    const opening = createDecipheriv(cipher, dataKey, nonce ?? Buffer.alloc(0), { authTagLength: 16 })
      .setAAD(boundTo(environment))
      .setAuthTag(tag ?? Buffer.alloc(0))
    return settingsOf(Buffer.concat([opening.update(data ?? Buffer.alloc(0)), opening.final()]).toString())
  } catch {
    throw new SealedError('it was changed after it was sealed')
  } finally {
    dataKey.fill(0)
  }
}

function boundTo (environment: string): Buffer {
  return Buffer.from(`${format} ${environment}`)
}

function parsed (file: string): unknown {
  try {
    return JSON.parse(file)
  } catch {
    throw new SealedError('it is no JSON')
  }
}

function textOf (content: unknown, ...names: string[]): string {
  const text = part(content, ...names)
  if (typeof text !== 'string') throw new SealedError(`it has no ${names.join('.')}`)
  return text
}
