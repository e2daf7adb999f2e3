import { createHmac, createSign, generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createSigner } from 'fast-jwt'
import t, { type Test } from 'tap'
import { secret, startApp, type Answer, type AppOverrides, type RunningApp } from '../app.ts'
import type { KeyTimes } from '../../auth/issuer-keys.ts'
import type { AddressInfo } from 'node:net'

const shared = await startApp(t)
const seconds = (): number => Math.floor(Date.now() / 1_000)
const leeway = 30
setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

/** The answer to a token on a route for customers. */
async function present (token: string | undefined, { ask }: Pick<RunningApp, 'ask'> = shared): Promise<Answer<{ type?: string, detail?: string }>> {
  return await ask('GET', '/orders', { token })
}

function signed (claims: object, key = secret): string {
  return createSigner({ key, algorithm: 'HS256' })({ exp: seconds() + 3_600, ...claims })
}

/** A token that no library would make. A claim that is undefined is left out. */
function forged (header: object, claims: object, sign: (input: string) => string): string {
  const input = [header, { exp: seconds() + 3_600, ...claims }].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${input}.${sign(input)}`
}

function hmac (key: string, hash = 'sha256'): (input: string) => string {
  return input => createHmac(hash, key).update(input).digest('base64url')
}

function refusesAs (t: Test, answer: Answer<{ type?: string }>, what: string): void {
  t.equal(answer.status, 401, what)
  t.match(answer.body, { type: /\/unauthenticated$/ })
  t.equal(answer.headers['www-authenticate'], 'Bearer')
}

t.test('tokens are verified with a shared secret', async t => {
  t.test('a token with a customer and a scope is accepted', async t => {
    t.equal((await present(signed({ sub: 'alice', scope: 'orders' }))).status, 200)
    t.equal((await present(signed({ sub: 'alice', scope: 'profile orders email' }))).status, 200)
    t.equal((await present(signed({ sub: 'alice', scope: ['profile', 'orders'] }))).status, 200, 'also with its scopes in a list')
    t.equal((await present(signed({ sub: 'alice', scope: 'staff' }))).status, 200)
    t.equal((await present(signed({ sub: 'Zoë 🍺 🍻', scope: 'orders' }))).status, 200)
  })

  t.test('a token that is not signed with the secret is refused', async t => {
    refusesAs(t, await present(signed({ sub: 'alice', scope: 'orders' }, `${secret}.`)), 'another secret')
    refusesAs(t, await present(forged({ alg: 'none' }, { sub: 'alice', scope: 'orders' }, () => '')), 'alg none')
    refusesAs(t, await present(forged({ alg: 'HS256' }, { sub: 'alice', scope: 'orders' }, () => '')), 'an empty signature')
    refusesAs(t, await present(forged({ alg: 'HS512' }, { sub: 'alice', scope: 'orders' }, hmac(secret, 'sha512'))), 'the secret, with another algorithm')
    const [head, , signature] = signed({ sub: 'alice', scope: 'orders' }).split('.')
    refusesAs(t, await present([head, Buffer.from('{"sub":"bob","scope":"orders"}').toString('base64url'), signature].join('.')), 'changed claims')
  })

  t.test('a token that has expired, or is not valid yet, is refused', async t => {
    refusesAs(t, await present(signed({ sub: 'alice', scope: 'orders', exp: seconds() - leeway - 1 })), 'expired')
    refusesAs(t, await present(signed({ sub: 'alice', scope: 'orders', nbf: seconds() + 60 })), 'not yet')
    t.equal((await present(signed({ sub: 'alice', scope: 'orders', exp: seconds() - 1 }))).status, 200, 'the clocks may be half a minute apart')
    t.equal((await present(signed({ sub: 'alice', scope: 'orders', nbf: seconds() + 10 }))).status, 200)
  })

  t.test('a token that was accepted is refused once it has expired', async t => {
    const exp = seconds() - leeway + 2
    const token = signed({ sub: 'alice', scope: 'orders', exp })
    let answer = await present(token)
    t.equal(answer.status, 200)
    while (answer.status === 200) answer = await present(token)
    refusesAs(t, answer, 'expired')
    t.ok(Date.now() >= (exp + leeway) * 1_000)
  })

  t.test('a token that names no customer is refused', async t => {
    for (const sub of [undefined, '', 7, null, ['alice'], 'a\0b', 'a\nb', '\ud83c', 's'.repeat(256)]) {
      refusesAs(t, await present(forged({ alg: 'HS256' }, { sub, scope: 'orders' }, hmac(secret))), JSON.stringify(sub))
    }
    t.equal((await present(signed({ sub: 's'.repeat(255), scope: 'orders' }))).status, 200)
  })

  t.test('a token without the scope gets 403, with the scope that it needs', async t => {
    for (const scope of [undefined, '', 'order', 'orders:read', 'ORDERS', [], { orders: true }, [['staff', 'x']]]) {
      const answer = await present(forged({ alg: 'HS256' }, { sub: 'alice', scope }, hmac(secret)))
      t.equal(answer.status, 403, JSON.stringify(scope))
      t.match(answer.body, { type: /\/forbidden$/ })
      t.equal(answer.headers['www-authenticate'], 'Bearer error="insufficient_scope", scope="orders staff"')
    }
    const staffOnly = await shared.ask('POST', '/orders', { token: signed({ sub: 'boss', scope: 'staff' }), body: {} })
    t.equal(staffOnly.status, 403, 'staff alone places no orders')
  })

  t.test('a request without a token gets 401, and how to send one', async t => {
    const bare = await present(undefined)
    refusesAs(t, bare, 'none')
    t.match(bare.body.detail, /Authorization: Bearer/)
    for (const authorization of ['', 'Basic YWxpY2U6', 'Bearer', 'Bearer a b', 'Bearer x', 'Bearer a.b.c', signed({ sub: 'alice', scope: 'orders' })]) {
      refusesAs(t, await shared.ask('GET', '/orders', { headers: { authorization } }), authorization.slice(0, 12))
    }
    refusesAs(t, await shared.ask('GET', `/products?access_token=${signed({ sub: 'alice', scope: 'orders' })}`), 'in the URL, where it would be logged')
  })

  t.test('two secrets are accepted while one is rotated, and no third', async t => {
    const [before, other] = ['the secret before this one, of more than thirty-two bytes', 'the secret of somebody else, of more than thirty-two bytes']
    const claims = { sub: 'alice', scope: 'orders' }
    refusesAs(t, await present(signed(claims, before)), 'not rotated')
    const rotated = await startApp(t, { databaseUrl: shared.databaseUrl, auth: { secret, previousSecret: before } })
    t.equal((await present(signed(claims), rotated)).status, 200)
    t.equal((await present(signed(claims, before), rotated)).status, 200)
    refusesAs(t, await present(signed(claims, other), rotated), 'a third')
    refusesAs(t, await present(signed({ ...claims, exp: 1 }, before), rotated), 'expired')
  })

  t.test('a token is cached once, however its header is written', async t => {
    const token = signed({ sub: 'alice', scope: 'orders' })
    const heapUsed = (): number => {
      collectGarbage()
      return process.memoryUsage().heapUsed
    }
    const before = heapUsed()
    for (let n = 0; n < 2_000; n++) {
      const { status } = await shared.ask('GET', '/orders/no-id', { headers: { authorization: `${n % 2 === 0 ? 'bearer' : 'BEARER'}${' '.repeat(12_000 - n)}${token}` } })
      if (status !== 400) return t.fail(`The token was refused: ${status}.`)
    }
    // A cache of the headers as they are would take 22 MB.
    t.ok(heapUsed() - before < 8_000_000)
  })

  t.test('a request is authenticated before its body and its parameters are read', async t => {
    refusesAs(t, await shared.ask('POST', '/orders', { body: '{' }), 'malformed')
    refusesAs(t, await shared.ask('GET', '/orders/no-id'), 'no id')
  })
})

t.test('tokens are verified with the keys of an issuer', async t => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ed = generateKeyPairSync('ed25519')
  const ed448 = generateKeyPairSync('ed448')
  const issuer = await startIssuer(t)
  issuer.keys = [jwkOf(rsa.publicKey, 'rsa'), jwkOf(ec.publicKey, 'ec'), jwkOf(ed.publicKey, 'ed'), jwkOf(ed448.publicKey, 'ed448')]
  const app = await startApp(t, { databaseUrl: shared.databaseUrl, auth: { jwksUrl: issuer.url, keyTimes: { cooldownMs: 0 } } })
  // The keys never come for this one. It starts here, because the wait takes a while.
  const kept = await startApp(t, { databaseUrl: shared.databaseUrl, auth: { jwksUrl: `${issuer.url}&hang` } })
  const waiting = present(issued(rsa.privateKey, 'RS256', 'rsa'), kept)

  t.test('a token of the issuer is accepted, whichever of its keys signed it', async t => {
    t.equal((await present(issued(rsa.privateKey, 'RS256', 'rsa'), app)).status, 200)
    t.equal((await present(issued(rsa.privateKey, 'PS256', 'rsa'), app)).status, 200)
    t.equal((await present(issued(ec.privateKey, 'ES256', 'ec'), app)).status, 200)
    t.equal((await present(issued(ed.privateKey, 'EdDSA', 'ed'), app)).status, 200)
    t.equal((await present(issued(ed448.privateKey, 'EdDSA', 'ed448'), app)).status, 200)
    t.same(new Set(issuer.asked), new Set(['/keys?tenant=1', '/keys?tenant=1&hang']), 'at the path and the query that were set')
  })

  t.test('the keys of the issuer are fetched once, and not for each request', async t => {
    const before = issuer.asked.length
    for (let n = 0; n < 5; n++) t.equal((await present(issued(rsa.privateKey, 'RS256', 'rsa'), app)).status, 200)
    t.equal(issuer.asked.length, before)
  })

  t.test('a public key is never taken for a shared secret', async t => {
    const claims = { sub: 'alice', scope: 'orders' }
    for (const [kid, { publicKey }] of Object.entries({ rsa, ec })) {
      for (const type of ['spki', 'pkcs1'] as const) {
        if (type === 'pkcs1' && kid === 'ec') continue
        const pem = publicKey.export({ type, format: 'pem' }).toString()
        refusesAs(t, await present(forged({ alg: 'HS256', kid }, claims, hmac(pem)), app), `${kid} as ${type}`)
        refusesAs(t, await present(forged({ alg: 'HS256', kid }, claims, hmac(pem.trim())), app), `${kid} as ${type}, trimmed`)
      }
    }
    refusesAs(t, await present(forged({ alg: 'none', kid: 'rsa' }, claims, () => ''), app), 'none')
    refusesAs(t, await present(signed(claims), app), 'a shared secret')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS256', 'rsa'), shared), 'the other way round')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS512', 'rsa'), app), 'an algorithm that the key supports and the service does not')
  })

  t.test('a token that is not signed with the named key of the issuer is refused', async t => {
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 })
    refusesAs(t, await present(issued(stranger.privateKey, 'RS256', 'rsa'), app), 'with a key id of the issuer')
    refusesAs(t, await present(issued(stranger.privateKey, 'RS256', 'stranger'), app), 'with a key id of its own')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS256', undefined), app), 'without a key id')
    refusesAs(t, await present(issued(ec.privateKey, 'ES256', 'rsa'), app), 'with the key id of another kind of key')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS256', 'rsa', { exp: seconds() - leeway - 1 }), app), 'expired')
  })

  t.test('a new key of the issuer is found', async t => {
    const next = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const token = issued(next.privateKey, 'ES256', 'next')
    refusesAs(t, await present(token, app), 'not yet')
    issuer.keys = [...issuer.keys, jwkOf(next.publicKey, 'next')]
    t.equal((await present(token, app)).status, 200)
  })

  t.test('while the issuer fails, known keys are used, and other tokens are refused as not started', async t => {
    issuer.fails = true
    t.equal((await present(issued(rsa.privateKey, 'RS256', 'rsa'), app)).status, 200)
    for (const answer of [await present(issued(rsa.privateKey, 'RS256', 'unseen'), app), await waiting]) {
      t.equal(answer.status, 503, 'not a 401: the token may be good')
      t.match(answer.body, { type: /\/not-started$/ })
      t.ok(answer.headers['retry-after'])
    }
    issuer.fails = false
  })
})

t.test('the keys of an issuer are fetched as one document, and refreshed', async t => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const token = issued(privateKey, 'ES256', 'k')
  const jwk = jwkOf(publicKey, 'k')
  const serve = async (t: Test, issuer: Issuer, keyTimes: Partial<KeyTimes>, more: AppOverrides = {}): Promise<RunningApp> => {
    return await startApp(t, { databaseUrl: shared.databaseUrl, auth: { jwksUrl: issuer.url, keyTimes }, ...more })
  }

  t.test('a key that was withdrawn is refused, also if it is used all the time', async t => {
    const issuer = await startIssuer(t, [jwk])
    const app = await serve(t, issuer, { refreshMs: 50 })
    t.equal((await present(token, app)).status, 200)
    issuer.keys = [jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey, 'another')]
    let answer = await present(token, app)
    while (answer.status === 200) answer = await present(token, app)
    refusesAs(t, answer, 'withdrawn')
    issuer.keys = [jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey, 'k'), jwk]
    while (answer.status === 401) answer = await present(token, app)
    issuer.keys = [jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey, 'k')]
    while (answer.status === 200) answer = await present(token, app)
    refusesAs(t, answer, 'replaced by another of the same id')
  })

  t.test('the keys are fetched before a token needs them, and again in the background', async t => {
    const issuer = await startIssuer(t, [jwk])
    await serve(t, issuer, { refreshMs: 50 })
    while (issuer.asked.length < 4) await setImmediate()
    t.pass('without a request')
  })

  t.test('while the issuer hangs, fails or sends nonsense, known keys are used, for a bounded time', async t => {
    const answers: Array<[string, Answering]> = [
      ['hangs', () => {}],
      ['hangs in the middle', response => { response.write('{"keys": [') }],
      ['fails', response => { response.writeHead(500).end('{"keys": []}') }],
      ['is gone', response => { response.destroy() }],
      ['redirects', response => { response.writeHead(302, { location: '/' }).end('{"keys": []}') }],
      ['answers HTML', response => { response.end('<html>') }],
      ['answers something else', response => { response.end('{"keys": {}}') }],
      ['never ends', response => { response.end(`{"keys": ["${'k'.repeat(1_100_000)}"]}`) }]
    ]
    for (const [what, answering] of answers) {
      const issuer = await startIssuer(t, [jwk])
      const [app, bounded] = await Promise.all([
        serve(t, issuer, { refreshMs: 100, timeoutMs: 50, cooldownMs: 50 }),
        serve(t, issuer, { refreshMs: 100, timeoutMs: 50, cooldownMs: 50, staleMs: 300 })
      ])
      for (const one of [app, bounded]) while ((await present(token, one)).status === 503) continue
      issuer.answering = answering
      let answer = await present(token, bounded)
      while (answer.status === 200) answer = await present(token, bounded)
      t.equal(answer.status, 503, `${what}: not a 401, the token may be good`)
      t.match(answer.body, { type: /\/not-started$/ })
      t.equal((await present(token, app)).status, 200, what)
      issuer.answering = undefined
      while (answer.status === 503) answer = await present(token, bounded)
      t.equal(answer.status, 200, 'the token is accepted again once the issuer answers')
    }
  })

  t.test('tokens with unknown key ids cause no fetches', async t => {
    const issuer = await startIssuer(t, [jwk])
    const app = await serve(t, issuer, { cooldownMs: 600_000 })
    t.equal((await present(token, app)).status, 200)
    for (let n = 0; n < 400; n++) {
      const { status } = await present(issued(privateKey, 'ES256', randomUUID()), app)
      if (status !== 401) return t.fail(String(status))
    }
    t.equal(issuer.asked.length, 1)
    t.equal((await present(token, app)).status, 200)
  })

  t.test('all requests that wait for the keys share one fetch, and an algorithm without a key causes none', async t => {
    const issuer = await startIssuer(t, [jwk])
    const held: ServerResponse[] = []
    issuer.answering = response => { held.push(response) }
    const arrived: string[] = []
    const app = await serve(t, issuer, { cooldownMs: 0, timeoutMs: 600_000 }, {
      extend: app => app.addHook('onRequest', (request, _reply, done) => {
        arrived.push(request.id)
        done()
      })
    })
    const waiting = Array.from({ length: 20 }, (_, n) => present(issued(privateKey, 'ES256', n % 2 === 0 ? 'k' : `k${n}`), app))
    while (arrived.length < 20) await setImmediate()
    for (const response of held) response.end(JSON.stringify({ keys: [jwk] }))
    t.same((await Promise.all(waiting)).map(({ status }) => status), waiting.map((_, n) => n % 2 === 0 ? 200 : 401))
    t.equal(issuer.asked.length, 1)
    refusesAs(t, await present(forged({ alg: 'none', kid: 'x' }, {}, () => ''), app), 'none')
    t.equal(issuer.asked.length, 1)
  })

  t.test('a fetch of keys that is under way ends with the service', async t => {
    const issuer = await startIssuer(t, [jwk])
    const aborted = new Promise(resolve => { issuer.answering = response => response.on('close', resolve) })
    const { app } = await serve(t, issuer, { timeoutMs: 600_000 })
    while (issuer.asked.length === 0) await setImmediate()
    await app.close()
    await aborted
    t.equal(issuer.asked.length, 1)
  })

  t.test('a key that is not for signatures, too short or unreadable verifies nothing, and the others do', async t => {
    const short = generateKeyPairSync('rsa', { modulusLength: 1024 })
    const other = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const issuer = await startIssuer(t, [
      null, 'key', {}, { kty: 'EC' }, { kty: 'EC', crv: 'P-256', kid: 'broken', x: 'x', y: 'y' }, { ...jwk, kid: 7 },
      { ...jwk, kid: 'enc', use: 'enc' }, { ...jwk, kid: 'ops', key_ops: ['deriveKey'] }, { ...jwk, kid: 'alg', alg: 'ECDH-ES' },
      jwkOf(short.publicKey, 'short'), jwkOf(other.publicKey, 'p384'), { ...jwk, alg: 'ES256', key_ops: ['verify'] }
    ])
    const app = await serve(t, issuer, {})
    for (const kid of ['enc', 'ops', 'alg', 'broken']) refusesAs(t, await present(issued(privateKey, 'ES256', kid), app), kid)
    const byShort = forged({ alg: 'RS256', kid: 'short' }, { sub: 'alice', scope: 'orders' }, input => createSign('RSA-SHA256').update(input).sign(short.privateKey, 'base64url'))
    refusesAs(t, await present(byShort, app), 'short')
    t.equal((await present(token, app)).status, 200)
  })
})

t.test('a token is accepted only with the right issuer, audience, type and times', async t => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const issuer = await startIssuer(t, [jwkOf(publicKey, 'k')])
  const expected = { issuer: 'https://issuer.example/', audience: ['last-orders', 'bar'] }
  const ways = {
    secret: { auth: { secret, ...expected }, make: (header: object, claims: object) => forged({ alg: 'HS256', ...header }, claims, hmac(secret)) },
    issuer: {
      auth: { jwksUrl: issuer.url, ...expected },
      make: (header: object, claims: object) => forged({ alg: 'RS256', kid: 'k', ...header }, claims, input => createSign('RSA-SHA256').update(input).sign(privateKey, 'base64url'))
    }
  }
  for (const [way, { auth, make }] of Object.entries(ways)) {
    const app = await startApp(t, { databaseUrl: shared.databaseUrl, auth })
    const good = { sub: 'alice', scope: 'orders', iss: expected.issuer, aud: 'last-orders' }
    const taken: Array<[header: object, claims: object]> = [
      [{}, {}], [{ typ: 'JWT' }, {}], [{ typ: 'jwt' }, {}], [{ typ: 'at+jwt' }, {}], [{ typ: 'application/at+JWT' }, {}],
      [{}, { aud: ['another', 'last-orders'] }],
      [{}, { aud: 'bar' }],
      [{}, { exp: seconds() - leeway + 10 }], [{}, { nbf: seconds() + leeway - 10 }], [{}, { nbf: seconds() - 3_600 }]
    ]
    const refused: Array<[header: object, claims: object]> = [
      [{}, { iss: undefined }], [{}, { iss: 'https://issuer.example' }], [{}, { iss: 'https://evil.example/' }], [{}, { iss: [expected.issuer] }], [{}, { iss: null }],
      [{}, { aud: undefined }], [{}, { aud: 'another' }], [{}, { aud: ['another', 'last-orders-2'] }], [{}, { aud: [] }], [{}, { aud: null }],
      [{ typ: 'logout+jwt' }, {}], [{ typ: 'dpop+jwt' }, {}], [{ typ: 'JWE' }, {}], [{ typ: '' }, {}], [{ typ: null }, {}], [{ typ: ['JWT'] }, {}],
      [{}, { exp: undefined }], [{}, { exp: null }], [{}, { exp: String(seconds() + 3_600) }], [{}, { exp: seconds() - leeway - 1 }],
      [{}, { nbf: seconds() + leeway + 60 }], [{}, { nbf: 'now' }],
      [{ crit: ['exp2'], exp2: 1 }, {}]
    ]
    for (const [header, claims] of taken) t.equal((await present(make(header, { ...good, ...claims }), app)).status, 200, `${way}: ${JSON.stringify({ ...header, ...claims })}`)
    for (const [header, claims] of refused) refusesAs(t, await present(make(header, { ...good, ...claims }), app), `${way}: ${Object.entries({ ...header, ...claims }).map(([name, value]) => `${name} ${value}`).join()}`)
  }
  refusesAs(t, await present(forged({ alg: 'HS256' }, { sub: 'alice', scope: 'orders', exp: undefined }, hmac(secret))), 'no exp, where no issuer and audience are set')
  refusesAs(t, await present(forged({ alg: 'HS256', typ: 'logout+jwt' }, { sub: 'alice', scope: 'orders' }, hmac(secret))), 'another typ, where no issuer and audience are set')
})

function issued (key: KeyObject, algorithm: 'RS256' | 'RS512' | 'PS256' | 'ES256' | 'EdDSA', kid: string | undefined, claims = {}): string {
  const pem = key.export({ type: 'pkcs8', format: 'pem' })
  return createSigner({ key: pem, algorithm, ...kid !== undefined && { kid } })({ sub: 'alice', scope: 'orders', exp: seconds() + 3_600, ...claims })
}

function jwkOf (key: KeyObject, kid: string): object {
  return { ...key.export({ format: 'jwk' }), kid, use: 'sig' }
}

type Answering = (response: ServerResponse) => void

interface Issuer {
  url: string
  keys: unknown[]
  fails: boolean
  /** Answers in place of the keys. */
  answering: Answering | undefined
  /** The URLs that were requested. */
  asked: string[]
}

async function startIssuer (t: Test, keys: unknown[] = []): Promise<Issuer> {
  const server = createServer((request: IncomingMessage, response) => {
    issuer.asked.push(request.url ?? '')
    if (request.url?.endsWith('hang') === true) return
    if (issuer.answering !== undefined) return issuer.answering(response)
    response.statusCode = issuer.fails ? 500 : 200
    response.end(JSON.stringify(issuer.fails ? { error: 'out of order' } : { keys: issuer.keys }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  const issuer: Issuer = { url: `http://127.0.0.1:${port}/keys?tenant=1`, keys, fails: false, answering: undefined, asked: [] }
  return issuer
}
