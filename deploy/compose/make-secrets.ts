import { randomBytes } from 'node:crypto'
import { chmodSync, chownSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The users in the containers: the Dockerfile's USER, and the user postgres of the image postgres:17. */
const uids = { service: 10_001, postgres: 999 }

const [directory] = process.argv.slice(2)
if (directory === undefined) {
  console.error('Usage: node make-secrets.ts <directory>. No secret was made.')
  process.exitCode = 1
} else {
  makeSecrets(directory)
}

/** Makes the secrets of docker-compose.yml once, each a file that only its user can read. Existing secrets stay. */
function makeSecrets (directory: string): void {
  const made = join(directory, 'made')
  const making = join(directory, 'making')
  if (existsSync(made)) {
    if (existsSync(join(made, 'ops-token'))) {
      console.log('nothing to make: the secrets are there')
      return
    }
    // The secrets are of an earlier version, which had no ops-token.
    write(making, 'ops-token', random(), uids.service)
    renameSync(join(making, 'ops-token'), join(made, 'ops-token'))
    rmSync(making, { recursive: true })
    console.log('made ops-token: the other secrets are there')
    return
  }
  // Two files hold the password. They must appear together: one alone would lock the service out for good.
  const password = random()
  rmSync(making, { recursive: true, force: true })
  write(making, 'database-password', password, uids.postgres)
  write(making, 'database-url', `postgresql://orders:${password}@database:5432/orders`, uids.service)
  write(making, 'auth-jwt-secret', random(), uids.service)
  write(making, 'ops-token', random(), uids.service)

  renameSync(making, made)
  console.log('made the secrets')
}

function random (): string {
  return randomBytes(32).toString('base64url')
}

function write (directory: string, name: string, secret: string, uid: number): void {
  mkdirSync(directory, { recursive: true })
  const file = join(directory, name)
  rmSync(file, { force: true })
  writeFileSync(file, secret)
  chmodSync(file, 0o400)
  chownSync(file, uid, uid)
}
