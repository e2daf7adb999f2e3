import { parseArgs } from 'node:util'
import { readLayers, requireGood } from '../config/layers.ts'
import { forPeople, UserError } from '../user-error.ts'
import { localSecret, signToken } from './local-token.ts'

const usage = 'Usage: npm run -s token -- --sub <customer> [--staff] [--refunds]'

try {
  const asked = argumentsOf(process.argv.slice(2))
  const { auth } = requireGood((await readLayers()).judge())
  if (auth.jwksUrl !== undefined) throw new UserError('AUTH_JWKS_URL is set: only its issuer can make tokens. No token was made.')
  console.log(signToken({ secret: auth.secret ?? localSecret(), issuer: auth.issuer, audience: auth.audience, ...asked }))
} catch (error) {
  console.error(forPeople(error))
  process.exitCode = 1
}

function argumentsOf (args: string[]): { sub: string, staff: boolean, refunds: boolean } {
  try {
    const { values } = parseArgs({ args, options: { sub: { type: 'string' }, staff: { type: 'boolean', default: false }, refunds: { type: 'boolean', default: false } } })
    if (values.sub) return { sub: values.sub, staff: values.staff, refunds: values.refunds }
  } catch {}
  throw new UserError(usage)
}
