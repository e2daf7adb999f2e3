import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { forPeople, UserError } from '../user-error.ts'
import { ageKeys, awsKms } from './key-services.ts'
import { seal, SealedError } from './sealed.ts'

const usage = `Usage:
  npm run -s seal -- --new-key FILE                                            writes a new key of age to FILE, and prints its recipient
  npm run -s seal -- FILE.env --environment staging --to age1…  > sealed.json  seals the settings in FILE.env for that key
  npm run -s seal -- FILE.env --environment staging --kms KEY   > sealed.json  the same for a key of AWS KMS`

try {
  await run()
} catch (error) {
  console.error(error instanceof SealedError ? `The settings were not sealed: ${error.message}.` : forPeople(error))
  process.exitCode = 1
}

async function run (): Promise<void> {
  const { values: { 'new-key': newKey, environment, to, kms }, positionals: [file, ...rest] } = optionsOf()
  if (newKey !== undefined && file === undefined) {
    const { generateIdentity, identityToRecipient } = await import('age-encryption')
    const identity = await generateIdentity()
    // Never overwrites a key, because nobody could open the files that are sealed for it.
    await writeFile(newKey, `${identity}\n`, { flag: 'wx', mode: 0o600 }).catch(notDone(`The key was not written to ${newKey}`))
    console.log(await identityToRecipient(identity))
    return
  }
  if (file === undefined || rest.length > 0 || environment === undefined || (to === undefined) === (kms === undefined)) throw new UserError(usage)
  process.stdout.write(await seal(await readFile(file, 'utf8').catch(notDone(`${file} cannot be read, and nothing was sealed`)), environment, to === undefined ? awsKms({ keyId: kms }) : ageKeys({ recipient: to })))
}

function optionsOf () {
  try {
    return parseArgs({ allowPositionals: true, options: { 'new-key': { type: 'string' }, environment: { type: 'string' }, to: { type: 'string' }, kms: { type: 'string' } } })
  } catch {
    throw new UserError(usage)
  }
}

function notDone (what: string) {
  return ({ message }: Error): never => { throw new UserError(`${what} (${message}).`) }
}
