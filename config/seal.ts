import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { ageKeys, awsKms } from './key-services.ts'
import { seal } from './sealed.ts'

const usage = `Usage:
  npm run -s seal -- --new-key FILE                                            a key of age: FILE holds it, and its recipient is printed
  npm run -s seal -- FILE.env --environment staging --to age1…  > sealed.json  what FILE.env holds, for that key alone
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
    // Never over one that is there: what is sealed for it could be opened no more.
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
