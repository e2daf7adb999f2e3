import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { ageKeys, awsKms } from './key-services.ts'
import { seal } from './sealed.ts'

const usage = `Usage:
  npm run -s seal -- --new-key FILE                                            writes a new key of age to FILE, and prints its recipient
  npm run -s seal -- FILE.env --environment staging --to age1…  > sealed.json  seals the settings in FILE.env for that key
  npm run -s seal -- FILE.env --environment staging --kms KEY   > sealed.json  the same for a key of AWS KMS`

try {
  await run()
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error))
  process.exitCode = 1
}

async function run (): Promise<void> {
  const { values: { 'new-key': newKey, environment, to, kms }, positionals: [file, ...rest] } = optionsOf()
  if (newKey !== undefined && file === undefined) {
    const { generateIdentity, identityToRecipient } = await import('age-encryption')
    const identity = await generateIdentity()
    // Never overwrites a key, because nobody could open the files that are sealed for it.
    await writeFile(newKey, `${identity}\n`, { flag: 'wx', mode: 0o600 })
    console.log(await identityToRecipient(identity))
    return
  }
  if (file === undefined || rest.length > 0 || environment === undefined || (to === undefined) === (kms === undefined)) throw new Error(usage)
  process.stdout.write(await seal(await readFile(file, 'utf8'), environment, to === undefined ? awsKms({ keyId: kms }) : ageKeys({ recipient: to })))
}

function optionsOf () {
  try {
    return parseArgs({ allowPositionals: true, options: { 'new-key': { type: 'string' }, environment: { type: 'string' }, to: { type: 'string' }, kms: { type: 'string' } } })
  } catch {
    throw new Error(usage)
  }
}
