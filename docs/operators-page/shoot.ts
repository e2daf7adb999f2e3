import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { createTestDatabase } from '../../test/postgres.ts'
import { startProgram } from '../../test/program.ts'
import { startService, type Service } from '../../test/service.ts'

// Takes the pictures of the operators' page: a fleet of two versions under load, one of it in mid-stop; then what nobody wants to
// see, and a dead event that is retried. It fails where the page's script does. It takes a Chromium.
//
//   node docs/operators-page/shoot.ts [directory]

const [, , directory = import.meta.dirname] = process.argv
const t = { ends: [] as Array<() => unknown>, teardown (end: () => unknown) { this.ends.unshift(end) } }

try {
  const { url } = await createTestDatabase(t)
  const sql = new pg.Client({ connectionString: url })
  await sql.connect()
  t.teardown(() => sql.end())
  await sql.query("INSERT INTO products VALUES ('ale-pint', 'Pint of ale', 520, 'EUR', 1000000)")
  const start = (REVISION: string): Promise<Service> => startService(t, { DATABASE_URL: url, REVISION, DRAIN_MIN_MS: '5000', DRAIN_QUIET_MS: '4000', DRAIN_MAX_MS: '15000', DRAIN_DEADLINE_MS: '26000' })

  const early = await start('3c52eb7')
  const [old, other] = [await start('3c52eb7'), await start('3c52eb7')]
  await load(early, 'haproxy/2.8', 20)
  early.child.kill('SIGTERM')
  await early.exited
  const next = await start('9e01d4a')
  const loads = [load(old, 'haproxy/2.8', 400), load(other, 'haproxy/2.8', 60), load(next, 'haproxy/2.8', 60)]
  const browser = await startChromium(t)
  const page = await browser.open(old.opsUrl, 1_200)
  await delay(4_000)
  old.child.kill('SIGTERM')
  await delay(5_600)
  writeFileSync(join(directory, 'mid-stop-light.webp'), await page.shoot('light'))
  writeFileSync(join(directory, 'mid-stop-dark.webp'), await page.shoot('dark'))
  const red = "[...document.querySelectorAll('.bad')].map(element => element.textContent).join(' ').trim()"
  const inStop = await page.run(red)
  if (inStop !== '') throw new Error(`The page shows a clean stop in red: ${String(inStop)}`)
  await old.exited
  while (await page.run('document.body.dataset.contact') !== 'ended') await delay(100)
  const afterwards = await page.run(red)
  if (afterwards !== '') throw new Error(`The page shows a clean stop in red when it is over: ${String(afterwards)}`)

  other.child.kill('SIGKILL')
  await sql.query('UPDATE stops SET exit_code = 20, report = jsonb_set(report, \'{requests,abandoned}\', \'{"count": 2, "ids": ["1f6f0d0e-97a5-4f0e-a1f5-0d8d8b1a4b5e", "7b1c9c52-5a1b-4a52-8f0b-6a2f1f7a0c11"]}\') WHERE pid = $1', [early.child.pid])
  await sql.query("UPDATE outbox SET dead_at = now(), available_at = now(), attempts = 20, last_error = 'EVENTS_URL answered 503: the broker is full' WHERE (order_id, version) IN (SELECT order_id, version FROM outbox LIMIT 2)")
  const after = await browser.open(next.opsUrl, 2_100)
  await delay(6_000)
  writeFileSync(join(directory, 'lost-light.webp'), await after.shoot('light'))
  writeFileSync(join(directory, 'lost-dark.webp'), await after.shoot('dark'))
  await after.run("document.querySelector('[data-focus^=retry]').click()")
  while (!String(await after.run("document.getElementById('dead-said').textContent")).includes('publishes it next')) await delay(100)
  await Promise.all(loads)
  console.log('The page did all that was asked of it.')
} finally {
  for (const end of t.ends) await end()
}

/** One request after another, some of them orders; until the service has gone. */
async function load ({ url, token }: Service, userAgent: string, requests: number): Promise<void> {
  const headers = { authorization: `Bearer ${token('alice')}`, 'content-type': 'application/json', 'user-agent': userAgent }
  for (let sent = 0; sent < requests; sent++) {
    const order = { method: 'POST', headers: { ...headers, 'idempotency-key': `${url}#${sent}` }, body: '{"currency":"EUR","items":[{"sku":"ale-pint","quantity":1}]}' }
    const answer = await fetch(`${url}${sent % 3 === 0 ? '/orders' : '/products'}`, sent % 3 === 0 ? order : { headers }).catch(() => undefined)
    if (answer === undefined) return
    await answer.text()
    await delay(30)
  }
}

/** By the DevTools protocol: the page is alive, and its picture is taken while it polls. */
async function startChromium (test: typeof t) {
  const profile = mkdtempSync(join(tmpdir(), 'last-orders-page-'))
  test.teardown(() => rmSync(profile, { recursive: true, force: true, maxRetries: 5 }))
  const { line } = startProgram(test, [
    'chromium', '--headless=new', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--remote-debugging-port=0', `--user-data-dir=${profile}`,
    'about:blank'
  ], { stdio: ['ignore', 'ignore', 'pipe'], endBy: 'SIGTERM' })
  const [endpoint = ''] = /ws:\S+/.exec(await line(/ws:\/\/\S+/)) ?? []
  const { host } = new URL(endpoint)

  return {
    async open (url: string, height: number) {
      const { webSocketDebuggerUrl } = await (await fetch(`http://${host}/json/new?${url}`, { method: 'PUT' })).json() as { webSocketDebuggerUrl: string }
      const socket = new WebSocket(webSocketDebuggerUrl)
      await once(socket, 'open')
      socket.addEventListener('message', ({ data }: { data: unknown }) => {
        const { method, params } = JSON.parse(String(data)) as { method?: string, params?: { entry?: { level: string, source: string, text: string } } }
        // What the network says is of no account: the process that is watched goes.
        const isFault = method === 'Runtime.exceptionThrown' || (method === 'Log.entryAdded' && params?.entry?.level === 'error' && params.entry.source !== 'network')
        if (isFault) throw new Error(`The page failed: ${JSON.stringify(params)}`)
      })
      let last = 0
      const call = async (method: string, params: object = {}): Promise<Record<string, unknown>> => {
        const id = ++last
        return await new Promise(resolve => {
          socket.addEventListener('message', function hear ({ data }: { data: unknown }) {
            const answer = JSON.parse(String(data)) as { id?: number, result: Record<string, unknown> }
            if (answer.id !== id) return
            socket.removeEventListener('message', hear)
            resolve(answer.result)
          })
          socket.send(JSON.stringify({ id, method, params }))
        })
      }
      await call('Runtime.enable')
      await call('Log.enable')
      await call('Emulation.setDeviceMetricsOverride', { width: 1180, height, deviceScaleFactor: 1, mobile: false })
      return {
        async run (expression: string): Promise<unknown> {
          const { result } = await call('Runtime.evaluate', { expression }) as { result: { value?: unknown } }
          return result.value
        },
        async shoot (scheme: 'light' | 'dark'): Promise<Buffer> {
          await call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }, { name: 'prefers-reduced-motion', value: 'reduce' }] })
          const { data } = await call('Page.captureScreenshot', { format: 'webp', quality: 80 })
          return Buffer.from(String(data), 'base64')
        }
      }
    }
  }
}
