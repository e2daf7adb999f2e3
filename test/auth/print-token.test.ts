import { statSync } from 'node:fs'
import { join } from 'node:path'
import { createVerifier } from 'fast-jwt'
import t from 'tap'
import { localSecret } from '../../auth/local-token.ts'
import { runProgram } from '../program.ts'

const signingSecret = 'a secret for tests, of more than thirty-two bytes'
const root = join(import.meta.dirname, '../..')

/** A variable that is set, even to nothing, overrides a developer's .env. */
async function run (command: string, args: string[], env: Record<string, string>): ReturnType<typeof runProgram> {
  const ours = { AUTH_JWT_SECRET: '', AUTH_JWT_SECRET_FILE: '', AUTH_JWKS_URL: '', AUTH_ISSUER: '', AUTH_AUDIENCE: '', DATABASE_URL: '', DATABASE_URL_FILE: '', NODE_ENV: '' }
  return await runProgram([command, ...args], { cwd: root, env: { PATH: process.env.PATH, HOME: process.env.HOME, ...ours, ...env } })
}

async function printToken (args: string[], env: Record<string, string> = { AUTH_JWT_SECRET: signingSecret }): ReturnType<typeof runProgram> {
  return await run(process.execPath, ['auth/print-token.ts', ...args], env)
}

t.test('npm run token prints nothing but a token, which is valid for a day', async t => {
  const { code, stdout } = await run('npm', ['run', '-s', 'token', '--', '--sub', 'alice'], { AUTH_JWT_SECRET: signingSecret })
  t.equal(code, 0)
  t.match(stdout, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
  const claims: { iat: number, exp: number } = createVerifier({ key: signingSecret, algorithms: ['HS256'] })(stdout.trim())
  t.match(claims, { sub: 'alice', scope: 'orders' })
  t.equal(claims.exp - claims.iat, 24 * 60 * 60)
})

t.test('npm run token with --staff prints a token of staff', async t => {
  const { stdout } = await printToken(['--staff', '--sub=boss'])
  t.match(createVerifier({ key: signingSecret })(stdout.trim()), { sub: 'boss', scope: 'orders staff' })
})

t.test('a printed token names the issuer and the audience that the service requires', async t => {
  const { stdout } = await printToken(['--sub', 'alice'], { AUTH_JWT_SECRET: signingSecret, AUTH_ISSUER: 'https://issuer/', AUTH_AUDIENCE: 'last-orders' })
  t.match(createVerifier({ key: signingSecret })(stdout.trim()), { sub: 'alice', iss: 'https://issuer/', aud: ['last-orders'] })
})

t.test('npm run token with wrong arguments prints its usage and no token', async t => {
  for (const args of [[], ['--sub'], ['--sub', ''], ['--sub', '--staff'], ['alice'], ['--sub', 'alice', 'bob'], ['--sub', 'alice', '--admin'], ['--help']]) {
    const { code, stdout, stderr } = await printToken(args)
    t.equal(code, 1, args.join(' '))
    t.equal(stdout, '')
    t.equal(stderr, 'Usage: npm run -s token -- --sub <customer> [--staff] [--refunds]\n')
  }
})

t.test('npm run token makes no token if AUTH_JWKS_URL is set', async t => {
  const { code, stdout, stderr } = await printToken(['--sub', 'alice'], { AUTH_JWKS_URL: 'https://issuer/keys' })
  t.same([code, stdout], [1, ''])
  t.match(stderr, /^AUTH_JWKS_URL is set: .* No token was made\.\n$/)
})

t.test('npm run token makes no token from settings that the service would refuse', async t => {
  const { code, stdout, stderr } = await printToken(['--sub', 'alice'], { DATABASE_URL: 'postgres://db/orders' })
  t.same([code, stdout], [1, ''])
  t.match(stderr, /DATABASE_URL is set and neither AUTH_JWT_SECRET nor AUTH_JWKS_URL is/)
})

t.test('the secret for the embedded Postgres is made once, and only its owner can read it', async t => {
  const file = join(t.testdir({}), 'data/jwt-secret')
  const secret = localSecret(file)
  t.match(secret, /^[\w-]{43}$/)
  t.equal(localSecret(file), secret)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.not(localSecret(`${file}-of-another`), secret)
})
