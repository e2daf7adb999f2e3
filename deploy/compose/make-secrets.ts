import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Who runs in the containers: the Dockerfile's USER, and the user postgres of the image postgres:17. */
const uids = { service: 10_001, postgres: 999 }

const [directory] = process.argv.slice(2)
if (directory === undefined) {
  console.error('Usage: node make-secrets.ts <directory>. No secret was made.')
  process.exitCode = 1
} else {
  makeSecrets(directory)
}

/** Makes the secrets of docker-compose.yml once, each a file that only who needs it can read. What is there stays. */
function makeSecrets (directory: string): void {
  const made = join(directory, 'made')
  if (existsSync(made)) {
    console.log('nothing to make: the secrets are there')
    return
  }
  // The password stands in two files. They appear together or not at all: a half would lock the service out for good.
  const making = join(directory, 'making')
  rmSync(making, { recursive: true, force: true })
  mkdirSync(making)

  const password = randomBytes(32).toString('base64url')
  write('database-password', password, uids.postgres)
  write('database-url', `postgresql://orders:${password}@database:5432/orders`, uids.service)
  write('auth-jwt-secret', randomBytes(32).toString('base64url'), uids.service)

  renameSync(making, made)
  console.log('made the secrets')

  function write (name: string, secret: string, uid: number): void {
    const file = join(making, name)
    writeFileSync(file, secret)
    chmodSync(file, 0o400)
    chownSync(file, uid, uid)
  }
}
