import { createHmac, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { createSigner } from 'fast-jwt'
import t, { type Test } from 'tap'
import { secret, startApp, type Answer, type RunningApp } from '../app.ts'
import type { AddressInfo } from 'node:net'

const shared = await startApp(t)
const seconds = (): number => Math.floor(Date.now() / 1_000)

/** What the service makes of a token, on a route for customers. */
async function present (token: string | undefined, { ask }: Pick<RunningApp, 'ask'> = shared): Promise<Answer<{ type?: string, detail?: string }>> {
  return await ask('GET', '/orders', { token })
}

function signed (claims: object, key = secret): string {
  return createSigner({ key, algorithm: 'HS256' })({ ...claims })
}

/** A token as nobody's library would make it. */
function forged (header: object, claims: object, sign: (input: string) => string): string {
  const input = [header, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
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

t.test('with a shared secret', async t => {
  t.test('a token with a customer and a scope is taken', async t => {
    t.equal((await present(signed({ sub: 'alice', scope: 'orders' }))).status, 200)
    t.equal((await present(signed({ sub: 'alice', scope: 'profile orders email' }))).status, 200)
    t.equal((await present(signed({ sub: 'alice', scope: ['profile', 'orders'] }))).status, 200, 'also with its scopes in a list')
    t.equal((await present(signed({ sub: 'alice', scope: 'staff' }))).status, 200)
    t.equal((await present(signed({ sub: 'Zoë 🍺 🍻', scope: 'orders' }))).status, 200)
  })

  t.test('a token that is not signed with it is refused', async t => {
    refusesAs(t, await present(signed({ sub: 'alice', scope: 'orders' }, `${secret}.`)), 'another secret')
    refusesAs(t, await present(forged({ alg: 'none' }, { sub: 'alice', scope: 'orders' }, () => '')), 'none at all')
    refusesAs(t, await present(forged({ alg: 'HS256' }, { sub: 'alice', scope: 'orders' }, () => '')), 'an empty signature')
    refusesAs(t, await present(forged({ alg: 'HS512' }, { sub: 'alice', scope: 'orders' }, hmac(secret, 'sha512'))), 'the secret, with another algorithm')
    const [head, , signature] = signed({ sub: 'alice', scope: 'orders' }).split('.')
    refusesAs(t, await present([head, Buffer.from('{"sub":"bob","scope":"orders"}').toString('base64url'), signature].join('.')), 'changed claims')
  })

  t.test('a token that has expired, or is not good yet, is refused', async t => {
    refusesAs(t, await present(signed({ sub: 'alice', scope: 'orders', exp: seconds() - 1 })), 'expired')
    refusesAs(t, await present(signed({ sub: 'alice', scope: 'orders', nbf: seconds() + 60 })), 'not yet')
  })

  t.test('a token that was good is refused once it has expired', async t => {
    const exp = seconds() + 2
    const token = signed({ sub: 'alice', scope: 'orders', exp })
    let answer = await present(token)
    t.equal(answer.status, 200)
    while (answer.status === 200) answer = await present(token)
    refusesAs(t, answer, 'expired')
    t.ok(Date.now() >= exp * 1_000)
  })

  t.test('a token that names no customer is refused', async t => {
    for (const sub of [undefined, '', 7, null, ['alice'], 'a\0b', 'a\nb', '\ud83c', 's'.repeat(256)]) {
      refusesAs(t, await present(forged({ alg: 'HS256' }, { sub, scope: 'orders' }, hmac(secret))), JSON.stringify(sub))
    }
    t.equal((await present(signed({ sub: 's'.repeat(255), scope: 'orders' }))).status, 200)
  })

  t.test('a token without the scope is forbidden, and told which one it takes', async t => {
    for (const scope of [undefined, '', 'order', 'orders:read', 'ORDERS', [], { orders: true }, [['staff', 'x']]]) {
      const answer = await present(forged({ alg: 'HS256' }, { sub: 'alice', scope }, hmac(secret)))
      t.equal(answer.status, 403, JSON.stringify(scope))
      t.match(answer.body, { type: /\/forbidden$/ })
      t.equal(answer.headers['www-authenticate'], 'Bearer error="insufficient_scope", scope="orders staff"')
    }
    const staffOnly = await shared.ask('POST', '/orders', { token: signed({ sub: 'boss', scope: 'staff' }), body: {} })
    t.equal(staffOnly.status, 403, 'staff alone places no orders')
  })

  t.test('a request without a token is told how to send one', async t => {
    const bare = await present(undefined)
    refusesAs(t, bare, 'none')
    t.match(bare.body.detail, /Authorization: Bearer/)
    for (const authorization of ['', 'Basic YWxpY2U6', 'Bearer', 'Bearer a b', 'Bearer x', 'Bearer a.b.c', signed({ sub: 'alice', scope: 'orders' })]) {
      refusesAs(t, await shared.ask('GET', '/orders', { headers: { authorization } }), authorization.slice(0, 12))
    }
    refusesAs(t, await shared.ask('GET', `/products?access_token=${signed({ sub: 'alice', scope: 'orders' })}`), 'in the URL, where it would be logged')
  })

  t.test('who may is asked before what is sent is read', async t => {
    refusesAs(t, await shared.ask('POST', '/orders', { body: '{' }), 'malformed')
    refusesAs(t, await shared.ask('GET', '/orders/no-id'), 'no id')
  })
})

t.test('with the keys of an issuer', async t => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ed = generateKeyPairSync('ed25519')
  const issuer = await startIssuer(t)
  issuer.keys = [jwkOf(rsa.publicKey, 'rsa'), jwkOf(ec.publicKey, 'ec'), jwkOf(ed.publicKey, 'ed')]
  const app = await startApp(t, { databaseUrl: shared.databaseUrl, auth: { jwksUrl: issuer.url } })
  // Its keys never come, and that takes a while.
  const kept = await startApp(t, { databaseUrl: shared.databaseUrl, auth: { jwksUrl: `${issuer.url}&hang` } })
  const waiting = present(issued(rsa.privateKey, 'RS256', 'rsa'), kept)

  t.test('its tokens are taken, whatever key of its signed them', async t => {
    t.equal((await present(issued(rsa.privateKey, 'RS256', 'rsa'), app)).status, 200)
    t.equal((await present(issued(rsa.privateKey, 'PS256', 'rsa'), app)).status, 200)
    t.equal((await present(issued(ec.privateKey, 'ES256', 'ec'), app)).status, 200)
    t.equal((await present(issued(ed.privateKey, 'EdDSA', 'ed'), app)).status, 200)
    t.same(new Set(issuer.asked), new Set(['/keys?tenant=1', '/keys?tenant=1&hang']), 'at the path and the query that were set')
  })

  t.test('its keys are fetched once, not for each request', async t => {
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
    refusesAs(t, await present(issued(rsa.privateKey, 'RS256', 'rsa'), shared), 'nor the other way')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS512', 'rsa'), app), 'an algorithm that the key could do and nobody chose')
  })

  t.test('a token of another is refused', async t => {
    const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 })
    refusesAs(t, await present(issued(stranger.privateKey, 'RS256', 'rsa'), app), 'with a key id of ours')
    refusesAs(t, await present(issued(stranger.privateKey, 'RS256', 'stranger'), app), 'with one of its own')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS256', undefined), app), 'with none')
    refusesAs(t, await present(issued(ec.privateKey, 'ES256', 'rsa'), app), 'with the key id of another kind of key')
    refusesAs(t, await present(issued(rsa.privateKey, 'RS256', 'rsa', { exp: seconds() - 1 }), app), 'expired')
  })

  t.test('a key that is new at the issuer is found', async t => {
    const next = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const token = issued(next.privateKey, 'ES256', 'next')
    refusesAs(t, await present(token, app), 'not yet')
    issuer.keys = [...issuer.keys, jwkOf(next.publicKey, 'next')]
    t.equal((await present(token, app)).status, 200)
  })

  t.test('when the issuer cannot be asked, keys that are known do, and the rest is refused as not started', async t => {
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

function issued (key: KeyObject, algorithm: 'RS256' | 'RS512' | 'PS256' | 'ES256' | 'EdDSA', kid: string | undefined, claims = {}): string {
  const pem = key.export({ type: 'pkcs8', format: 'pem' })
  return createSigner({ key: pem, algorithm, ...kid !== undefined && { kid } })({ sub: 'alice', scope: 'orders', ...claims })
}

function jwkOf (key: KeyObject, kid: string): object {
  return { ...key.export({ format: 'jwk' }), kid, use: 'sig' }
}

interface Issuer {
  url: string
  keys: object[]
  fails: boolean
  /** What was asked for. */
  asked: string[]
}

async function startIssuer (t: Test): Promise<Issuer> {
  const server = createServer((request, response) => {
    issuer.asked.push(request.url ?? '')
    if (request.url?.endsWith('hang') === true) return
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
  const issuer: Issuer = { url: `http://127.0.0.1:${port}/keys?tenant=1`, keys: [], fails: false, asked: [] }
  return issuer
}
