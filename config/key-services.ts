import { readFile } from 'node:fs/promises'
import { SealedError } from './sealed.ts'

/** Encrypts and decrypts the key of a sealed file. Whoever may decrypt the key can open the file. */
export interface KeyService {
  readonly name: string
  wrap (key: Uint8Array, environment: string): Promise<Buffer>
  /** @throws SealedError */
  unwrap (wrapped: Uint8Array, environment: string): Promise<Buffer>
}

export const kmsService = 'aws-kms'
export const ageService = 'age'

/**
 * A key of age (https://age-encryption.org) in a file: for development, and for operators without a KMS.
 *
 * @param recipient `age1…`, to seal
 * @param identityFile to open: has a line `AGE-SECRET-KEY-1…`, and may have comments
 */
export function ageKeys ({ recipient, identityFile }: { recipient?: string | undefined, identityFile?: string | undefined }): KeyService {
  return {
    name: ageService,
    async wrap (key) {
      if (recipient === undefined) throw new SealedError('it needs a recipient (--to)')
      const { Encrypter } = await import('age-encryption')
      const encrypter = new Encrypter()
      encrypter.addRecipient(recipient)
      return Buffer.from(await encrypter.encrypt(key))
    },
    async unwrap (wrapped) {
      if (identityFile === undefined) throw new SealedError('it is sealed for a key of age, and CONFIG_SEALED_KEY_FILE is not set')
      const text = await readFile(identityFile, 'utf8').catch(() => { throw new SealedError(`CONFIG_SEALED_KEY_FILE names the file ${identityFile}, which cannot be read`) })
      const identity = /^AGE-SECRET-KEY-\S+$/m.exec(text)?.[0]
      if (identity === undefined) throw new SealedError(`CONFIG_SEALED_KEY_FILE names the file ${identityFile}, which holds no key of age`)
      const { Decrypter } = await import('age-encryption')
      try {
        const decrypter = new Decrypter()
        decrypter.addIdentity(identity)
        return Buffer.from(await decrypter.decrypt(wrapped))
      } catch {
        throw new SealedError('the key in CONFIG_SEALED_KEY_FILE does not open it')
      }
    }
  }
}

/** The used part of @aws-sdk/client-kms. It is an optional peer, needed only for files that KMS sealed. */
interface KmsModule {
  KMSClient: new (options: object) => { send (command: object): Promise<{ CiphertextBlob?: Uint8Array, Plaintext?: Uint8Array }>, destroy (): void }
  EncryptCommand: new (input: object) => object
  DecryptCommand: new (input: object) => object
}

const kmsPackage = '@aws-sdk/client-kms'

/** How long one attempt to call KMS may take, in ms. */
const kmsMs = 5_000

/**
 * AWS KMS by its official client, which finds region and credentials in its usual places. The environment is the encryption
 * context, so that a policy can allow only the files of one environment (kms:EncryptionContext:environment).
 *
 * @param keyId to seal; a sealed file names its key itself
 */
export function awsKms ({
  keyId,
  load = async () => await import(kmsPackage) as unknown
}: { keyId?: string | undefined, load?: () => Promise<unknown> } = {}): KeyService {
  async function call (commandOf: (kms: KmsModule) => object): Promise<{ CiphertextBlob?: Uint8Array, Plaintext?: Uint8Array }> {
    const kms = await load().catch(() => undefined)
    if (!isKms(kms)) throw new SealedError(`it is sealed by AWS KMS, and ${kmsPackage} is not installed (npm install ${kmsPackage})`)
    const client = new kms.KMSClient({ maxAttempts: 3, requestHandler: { connectionTimeout: kmsMs, requestTimeout: kmsMs } })
    try {
      return await client.send(commandOf(kms))
    } catch (error) {
      // Only the name of the error, because its message may quote the request.
      throw new SealedError(`AWS KMS refused (${error instanceof Error ? error.name : 'unknown reason'})`)
    } finally {
      client.destroy()
    }
  }

  return {
    name: kmsService,
    async wrap (key, environment) {
      const { CiphertextBlob: wrapped } = await call(({ EncryptCommand }) =>
        new EncryptCommand({ KeyId: keyId, Plaintext: key, EncryptionContext: { environment } }))
      if (wrapped === undefined) throw new SealedError('AWS KMS gave nothing back')
      return Buffer.from(wrapped)
    },
    async unwrap (wrapped, environment) {
      const { Plaintext: key } = await call(({ DecryptCommand }) => new DecryptCommand({ CiphertextBlob: wrapped, EncryptionContext: { environment } }))
      if (key === undefined) throw new SealedError('AWS KMS gave nothing back')
      return Buffer.from(key)
    }
  }
}

function isKms (module: unknown): module is KmsModule {
  return typeof module === 'object' && module !== null && ['KMSClient', 'EncryptCommand', 'DecryptCommand'].every(name => typeof Reflect.get(module, name) === 'function')
}
