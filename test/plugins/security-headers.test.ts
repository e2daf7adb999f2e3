import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { startApp } from '../app.ts'

const usual = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff'
}

t.test('every answer of the API has the security headers, whatever it is', async t => {
  const { ask, token, url } = await startApp(t)
  const alice = token('alice')
  const answers = {
    'a probe': await ask('GET', '/livez'),
    'a read': await ask('GET', '/orders', { token: alice }),
    'the document': await ask('GET', '/openapi.json'),
    'a refusal without a token': await ask('GET', '/orders'),
    'no route': await ask('GET', '/nothing'),
    'an invalid body': await ask('POST', '/orders', { token: alice, body: '{' }),
    'a URL that cannot be decoded': await ask('GET', '/orders/%ff', { token: alice })
  }
  for (const [what, { headers }] of Object.entries(answers)) t.match(headers, usual, what)

  const stream = await fetch(`${url}/orders/stream`, { headers: { authorization: `Bearer ${alice}` } })
  t.match(Object.fromEntries(stream.headers), usual, 'an event stream')
  await stream.body?.cancel()

  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  await once(socket, 'connect')
  socket.write('GARBAGE\r\n\r\n')
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  for (const [name, value] of Object.entries(usual)) t.match(text, `${name}: ${value}`, 'bytes that are no request')
})

t.test('the page to browse the API has a policy of its own, and is missing if DOCS is false', async t => {
  const shown = await startApp(t)
  const page = await shown.ask('GET', '/docs/')
  t.equal(page.status, 200)
  t.match(page.headers['content-security-policy'], /default-src 'self'/)
  t.match(page.headers, { 'x-content-type-options': 'nosniff' })

  const { ask } = await startApp(t, { databaseUrl: shown.databaseUrl, settings: { DOCS: 'false' } })
  for (const path of ['/docs', '/docs/', '/docs/json', '/docs/static/index.html']) t.equal((await ask('GET', path)).status, 404, path)
  t.equal((await ask('GET', '/openapi.json')).status, 200)
})
