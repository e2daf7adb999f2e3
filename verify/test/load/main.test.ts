import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { readHistory } from '../../history-file.ts'
import { lastOpOf } from '../../load/settle.ts'
import type { Counts, Settings, Tell, Told } from '../../load/settings.ts'
import { answer, callIn, listen, orderOf, products } from './toy-service.ts'

const main = fileURLToPath(new URL('../../load/main.ts', import.meta.url))
const targetFile = fileURLToPath(new URL('toy-service.ts', import.meta.url))
const run = { directory: '', databaseUrl: '', directDatabaseUrl: '', products }

function start (t: Test, settings: Settings): { child: ChildProcess, told: Told[], errors: Promise<string>, ended: Promise<unknown[]> } {
  const child = fork(main, [JSON.stringify(settings)], { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] })
  t.teardown(() => child.kill('SIGKILL'))
  const told: Told[] = []
  child.on('message', message => told.push(message as Told))
  return { child, told, errors: text(child.stderr as Readable), ended: once(child, 'exit') }
}

async function startService (t: Test): Promise<{ url: string, keys: string[], first: Promise<void> }> {
  const keys: string[] = []
  const { promise: first, resolve } = Promise.withResolvers<void>()
  const { url } = await listen(t, async (request, response) => {
    if (request.method === 'GET') {
      response.writeHead(404).end()
      return
    }
    const call = await callIn(request)
    if (call.kind === 'list') return answer(response, 200, { ids: [] })
    if (call.kind !== 'place') return answer(response, 404, 'no such order')
    keys.push(`${call.customer} ${call.key}`)
    answer(response, 201, orderOf(call.key, call.order))
    resolve()
  })
  return { url, keys, first }
}

t.test('a load reports its progress and its end, and a second one settles what it left', async t => {
  const { url, keys } = await startService(t)
  const common = { targetFile, run, urls: [url] as const, clients: 4, historyFile: join(t.testdir(), 'history.jsonl') }
  const load = start(t, { what: 'load', ...common, rate: 100, duration: 700, seed: 3 })
  t.same(await load.ended, [0, null], await load.errors)
  t.equal(load.told.at(-1), 'done')
  const counts = load.told.filter(told => typeof told === 'object').map(({ progress }) => progress)
  const { lines, torn } = readHistory(common.historyFile)
  t.ok(counts.length >= 2)
  t.match(counts.at(-1), { invoked: lines.filter(({ type }) => type === 'invoke').length, inFlight: 0 } satisfies Partial<Counts>)
  t.equal(torn, null)

  const asked = new Set(keys.splice(0))
  const settleFile = `${common.historyFile}.settle`
  const settling = start(t, { what: 'settle', ...common, settleFile })
  t.same(await settling.ended, [0, null], await settling.errors)
  t.equal(settling.told.at(-1), 'done')
  t.same(new Set(keys), asked)
  t.equal(keys.length, asked.size)
  t.ok(readHistory(settleFile).lines.every(line => !('op' in line) || line.op > lastOpOf(lines)))
})

t.test('the load stops when it is told to', async t => {
  const { url, first } = await startService(t)
  const load = start(t, { what: 'load', targetFile, run, urls: [url], clients: 4, historyFile: join(t.testdir(), 'history.jsonl'), rate: 100, duration: 600_000, seed: 3 })
  await first
  load.child.send('stop' satisfies Tell)
  t.same(await load.ended, [0, null], await load.errors)
  t.equal(load.told.at(-1), 'done')
})

t.test('the load does not outlive its parent', async t => {
  const { url, first } = await startService(t)
  const load = start(t, { what: 'load', targetFile, run, urls: [url], clients: 4, historyFile: join(t.testdir(), 'history.jsonl'), rate: 100, duration: 600_000, seed: 3 })
  await first
  load.child.disconnect()
  t.same(await load.ended, [1, null])
  t.equal(await load.errors, '', 'sending to a parent that is gone is no error')
})
