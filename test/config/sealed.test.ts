import { execFile } from 'node:child_process'
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { ageKeys, awsKms, type KeyService } from '../../config/key-services.ts'
import { readLayers, SealedUnreadable } from '../../config/layers.ts'
import { seal, SealedError, unseal } from '../../config/sealed.ts'
import { secret, startApp } from '../app.ts'

const run = promisify(execFile)
const command = join(import.meta.dirname, '../../config/seal.ts')

t.test('a file sealed for a key of age shows no value, and opens only with that key and in its environment', async t => {
  const directory = t.testdir({ 'secrets.env': `AUTH_JWT_SECRET=${secret}\nOPS_TOKEN="hunter 2"\n` })
  const key = join(directory, 'key')
  const recipient = (await run(process.execPath, [command, '--new-key', key])).stdout.trim()
  t.equal(statSync(key).mode & 0o077, 0)
  await t.rejects(run(process.execPath, [command, '--new-key', key]), /EEXIST/, 'an existing key stays')
  const { stdout: sealed } = await run(process.execPath, [command, join(directory, 'secrets.env'), '--environment', 'staging', '--to', recipient])
  t.notMatch(sealed, /hunter|a secret for tests/)
  t.match(JSON.parse(sealed), { environment: 'staging', names: ['AUTH_JWT_SECRET', 'OPS_TOKEN'], key: { service: 'age' } })

  const open = async (file: string, environment = 'staging', identityFile = key) => await unseal(file, environment, () => ageKeys({ identityFile }))
  t.same(await open(sealed), { AUTH_JWT_SECRET: secret, OPS_TOKEN: 'hunter 2' })
  await t.rejects(open(sealed, 'production'), new SealedError('it is sealed for the environment "staging", and this is "production"'))
  await t.rejects(open(sealed.replace('"environment": "staging"', '"environment": "production"'), 'production'), new SealedError('it was changed after it was sealed'))
  const data = /"data": "(.)/.exec(sealed)?.[1] === 'A' ? 'B' : 'A'
  await t.rejects(open(sealed.replace(/"data": "./, `"data": "${data}`)), new SealedError('it was changed after it was sealed'))
  const other = join(directory, 'other')
  await run(process.execPath, [command, '--new-key', other])
  await t.rejects(open(sealed, 'staging', other), new SealedError('the key in CONFIG_SEALED_KEY_FILE does not open it'))
  await t.rejects(open(sealed, 'staging', join(directory, 'absent')), /cannot be read/)
  await t.rejects(open('{}'), /not of the format/)
  await t.rejects(run(process.execPath, [command, join(directory, 'secrets.env'), '--environment', 'staging']), /Usage/)
})

t.test('sealing with AWS KMS sends only the key there, with the environment as its context', async t => {
  const kms = kmsStandIn()
  const sealed = await seal('OPS_TOKEN=hunter2\n', 'staging', kms.keys)
  t.same(await unseal(sealed, 'staging', () => kms.keys), { OPS_TOKEN: 'hunter2' })
  t.notMatch(JSON.stringify(kms.calls), 'hunter2')
  t.match(kms.calls, [{ EncryptionContext: { environment: 'staging' }, KeyId: 'alias/last-orders' }, { EncryptionContext: { environment: 'staging' } }])
  await t.rejects(unseal(sealed.replace('"environment": "staging"', '"environment": "production"'), 'production', () => kms.keys), new SealedError('AWS KMS refused (InvalidCiphertextException)'))
  await t.rejects(unseal(sealed, 'staging', () => awsKms({ load: async () => { throw new Error('no such package') } })), /@aws-sdk\/client-kms is not installed/)
})

t.test('sealed settings are a layer above the central one and below .env, and a changed file rotates them', async t => {
  const directory = t.testdir({ 'one.env': `AUTH_JWT_SECRET=${secret}\nRATE_LIMIT=7\nLOG_LEVEL=warn\n`, 'two.env': `AUTH_JWT_SECRET=${secret}, another\nAUTH_JWT_SECRET_PREVIOUS=${secret}\nRATE_LIMIT=7\nLOG_LEVEL=warn\n` })
  const key = join(directory, 'key')
  const recipient = (await run(process.execPath, [command, '--new-key', key])).stdout.trim()
  const file = join(directory, 'sealed.json')
  const sealAs = async (name: string): Promise<void> => {
    writeFileSync(`${file}.new`, await seal(readFileSync(join(directory, name), 'utf8'), 'staging', ageKeys({ recipient })))
    renameSync(`${file}.new`, file)
  }
  await sealAs('one.env')
  const { databaseUrl } = await startApp(t)
  const settings = { ENVIRONMENT: 'staging', CONFIG_SEALED_FILE: file, CONFIG_SEALED_KEY_FILE: key, DATABASE_URL: databaseUrl, LOG_LEVEL: 'error' }
  const layers = await readLayers({ file: {}, process: settings })
  const shown = layers.shown(layers.judge())
  t.match(shown.find(({ name }) => name === 'RATE_LIMIT'), { layer: 'sealed', value: '7' })
  t.match(shown.find(({ name }) => name === 'LOG_LEVEL'), { layer: 'environment', value: 'error' })
  t.match(shown.find(({ name }) => name === 'AUTH_JWT_SECRET'), { layer: 'sealed', value: null })

  const { app } = await startApp(t, { layers })
  await sealAs('two.env')
  while (app.settings.now.auth.previousSecret !== secret) await new Promise(resolve => setTimeout(resolve, 10))
  t.equal(app.settings.now.auth.secret, `${secret}, another`)
  writeFileSync(file, '{')
  while (!/^config_reloads_total\{origin="files",outcome="refused"\} [1-9]/m.test(await app.metrics.render())) await new Promise(resolve => setTimeout(resolve, 10))
  t.equal(app.settings.now.auth.secret, `${secret}, another`)
  await t.rejects(readLayers({ file: {}, process: settings }), new SealedUnreadable(file, 'it is no JSON'))
})

/** A stand-in in the shape of the official client. It decrypts only what it encrypted in the same context. */
function kmsStandIn (): { keys: KeyService, calls: Array<Record<string, unknown>> } {
  const calls: Array<Record<string, unknown>> = []
  class Command {
    readonly input: Record<string, unknown>
    constructor (input: Record<string, unknown>) {
      this.input = input
    }
  }
  class KMSClient {
    async send ({ input }: Command): Promise<object> {
      calls.push(input)
      const { Plaintext, CiphertextBlob, EncryptionContext } = input
      if (Plaintext instanceof Uint8Array) return { CiphertextBlob: Buffer.from(JSON.stringify({ key: Buffer.from(Plaintext).toString('base64'), EncryptionContext })) }
      const { key, EncryptionContext: sealedFor } = JSON.parse(String(CiphertextBlob)) as { key: string, EncryptionContext: unknown }
      if (JSON.stringify(sealedFor) !== JSON.stringify(EncryptionContext)) throw Object.assign(new Error('hunter2'), { name: 'InvalidCiphertextException' })
      return { Plaintext: Buffer.from(key, 'base64') }
    }

    destroy (): void {}
  }
  return { keys: awsKms({ keyId: 'alias/last-orders', load: async () => ({ KMSClient, EncryptCommand: Command, DecryptCommand: Command }) }), calls }
}
