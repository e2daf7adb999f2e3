import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { signToken } from '../auth/local-token.ts'
import { startEmbeddedPostgres } from '../postgres/embedded.ts'
import { withClient } from '../postgres/with-client.ts'
import { startProgram, type Program } from '../test/program.ts'
import { readArguments } from './arguments.ts'
import type { DrainReport } from 'fastify-drain'

const help = `Stops two instances of the service again and again under load, kills each once, and compares what a real Prometheus,
which scrapes every 15 s, finally knows with what the stops reported in their last lines. Exits with 1 if they differ.

node bench/stops-told.ts [--stops 20] [--prometheus prometheus]

--stops       stops by SIGTERM, of both together; two SIGKILLs are added
--prometheus  the program (Debian: apt-get install prometheus)`

const options = readArguments({
  stops: { type: 'string', default: '20' },
  prometheus: { type: 'string', default: 'prometheus' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['stops'])

const intervalS = 15
const secret = 'a secret of this program, of more than thirty-two bytes'
const prometheusPort = 19_090
const opsPorts = [13_001, 13_011]
const directory = await mkdtemp(join(tmpdir(), 'stops-told-'))
const database = await startEmbeddedPostgres({ directory: join(directory, 'postgres') })
const endings: Array<() => Promise<unknown>> = []
const bench = { teardown: (end: () => Promise<unknown>) => endings.push(end) }

try {
  process.exitCode = await run() ? 0 : 1
} finally {
  await Promise.all(endings.map(async end => await end()))
  await database.release()
  await rm(directory, { recursive: true, force: true })
}

async function run (): Promise<boolean> {
  const begunAt = Date.now()
  await writeFile(join(directory, 'prometheus.yml'), JSON.stringify({
    global: { scrape_interval: `${intervalS}s` },
    scrape_configs: [{ job_name: 'last-orders', static_configs: [{ targets: opsPorts.map(port => `127.0.0.1:${port}`) }] }]
  }))
  startProgram(bench, [
    options.prometheus, `--config.file=${join(directory, 'prometheus.yml')}`, `--storage.tsdb.path=${join(directory, 'tsdb')}`, `--web.listen-address=127.0.0.1:${prometheusPort}`
  ], { stdio: 'ignore' })

  // The first one starts alone, because it makes the tables.
  const reports: DrainReport[] = []
  const first = await startService(opsPorts[0] ?? 0)
  const lives = [first, await startService(opsPorts[1] ?? 0)]
  const left = await Promise.all(lives.map(async (life, index) =>
    await stopAgainAndAgain(life, opsPorts[index] ?? 0, Number(options.stops) / 2, index, reports)))

  // A killed process counts after 30 s of silence, an end after 10 s; then comes a scrape.
  await delay(30_000 + 10_000 + 2 * intervalS * 1_000)
  const isEqual = await compare(reports, begunAt)
  await Promise.all(left.map(async ({ child, exited }) => {
    child.kill('SIGTERM')
    await exited
  }))
  return isEqual
}

interface Life extends Pick<Program, 'child' | 'exited'> {
  port: number
  /** The last line of its log that carries a report. */
  report: () => DrainReport | undefined
}

async function startService (opsPort: number): Promise<Life> {
  const port = opsPort - 1
  const { child, line, lines, exited } = startProgram(bench, [process.execPath, 'server.ts'], {
    env: { PATH: process.env.PATH, DATABASE_URL: database.url, AUTH_JWT_SECRET: secret, PORT: String(port), OPS_PORT: String(opsPort), DRAIN_MIN_MS: '1000', DRAIN_QUIET_MS: '200', DRAIN_MAX_MS: '3000' },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  await line(new RegExp(`:${opsPort}"`))
  return {
    child,
    exited,
    port,
    report: () => {
      const last = lines.findLast(line => line.includes('"drain":{'))
      return last === undefined ? undefined : (JSON.parse(last) as { drain: DrainReport }).drain
    }
  }
}

/** Stops an instance again and again, at random moments under load. One stop is a SIGKILL: of one instance while it serves, of the other while it stops. */
async function stopAgainAndAgain (life: Life, opsPort: number, stops: number, index: number, reports: DrainReport[]): Promise<Life> {
  const token = signToken({ secret, sub: 'alice' })
  for (let stop = 0; stop <= stops; stop++) {
    const ended = new AbortController()
    const load = Promise.all(Array.from({ length: 8 }, async () => {
      while (!ended.signal.aborted) {
        await fetch(`http://127.0.0.1:${life.port}/orders`, { headers: { authorization: `Bearer ${token}` } }).then(async answer => await answer.text()).catch(async () => await delay(20))
      }
    }))
    await delay(1_000 + Math.random() * 2_000)
    const isKilled = stop === Math.ceil(stops / 2)
    if (!isKilled || index === 1) life.child.kill('SIGTERM')
    if (isKilled) {
      if (index === 1) await delay(500)
      life.child.kill('SIGKILL')
    }
    const [code, signal] = await life.exited
    ended.abort()
    await load
    const report = life.report()
    if (report !== undefined) reports.push(report)
    console.log(`${new Date().toISOString()} instance ${index}, ${isKilled ? 'SIGKILL' : 'SIGTERM'}: ${String(code ?? signal)}${report === undefined ? '' : `, ${report.elapsed} ms, ${report.requests.completed.count} requests completed`}`)
    life = await startService(opsPort)
  }
  return life
}

async function compare (reports: DrainReport[], begunAt: number): Promise<boolean> {
  // An operator's question: every instance must report the same about all.
  const series = async (query: string): Promise<number> => {
    const answer = await fetch(`http://127.0.0.1:${prometheusPort}/api/v1/query?${new URLSearchParams({ query }).toString()}`)
    const { data } = await answer.json() as { data: { result: Array<{ value: [number, string] }> } }
    return Number(data.result[0]?.value[1] ?? NaN)
  }
  const total = async (name: string, labels: string): Promise<number> => await series(`sum(max without (instance) (${name}{${labels}}))`)
  const { rows } = await withClient(database.url, async client => await client.query<{ report: DrainReport }>('SELECT report FROM stops WHERE finished_at IS NOT NULL'))
  const stored = rows.map(({ report }) => report)
  const sum = (values: number[]): number => values.reduce((whole, value) => whole + value, 0)
  const draining = ({ phases }: DrainReport): number => (phases.closing ?? NaN) - (phases.draining ?? NaN)
  const appClose = ({ hooks }: DrainReport): number => hooks.find(({ name }) => name === 'app.close')?.duration ?? NaN

  const rowsOfTable: Array<[string, number, number]> = [
    ['stops, clean, SIGTERM', reports.filter(({ exitCode, reason }) => exitCode === 0 && reason === 'SIGTERM').length, await total('stops_total', 'outcome="clean",reason="SIGTERM"')],
    ['stops, abandoned', reports.filter(({ exitCode }) => exitCode === 20).length, await total('stops_total', 'outcome="abandoned"')],
    ['stops, failed', reports.filter(({ exitCode }) => ![0, 20].includes(exitCode ?? NaN)).length, await total('stops_total', 'outcome="failed"')],
    ['killed as it served', 1, await total('stops_total', 'outcome="unfinished",reason="killed-serving"')],
    ['killed as it stopped', 1, await total('stops_total', 'outcome="unfinished",reason="killed-stopping"')],
    ['requests completed', sum(reports.map(({ requests }) => requests.completed.count)), await total('stops_requests_total', 'fate="completed"')],
    ['requests refused', sum(reports.map(({ requests }) => requests.refused.count)), await total('stops_requests_total', 'fate="refused"')],
    ['requests unstarted', sum(reports.map(({ requests }) => requests.unstarted.count)), await total('stops_requests_total', 'fate="unstarted"')],
    ['requests abandoned', sum(reports.map(({ requests }) => requests.abandoned.count)), await total('stops_requests_total', 'fate="abandoned"')],
    ['draining, s', sum(reports.map(draining)) / 1_000, await total('stops_seconds_total', 'phase="draining"')],
    ['closing, s', sum(stored.map(report => report.elapsed - appClose(report) - (report.phases.closing ?? NaN))) / 1_000, await total('stops_seconds_total', 'phase="closing"')],
    ['app.close(), s', sum(stored.map(appClose)) / 1_000, await total('stops_seconds_total', 'phase="app_close"')],
    ['left behind', 0, await total('stops_leaks_total', '')]
  ]
  const seenDraining = await series(`count(max_over_time(drain_state{state="draining"}[${Math.ceil((Date.now() - begunAt) / 1_000)}s]) > 0)`)
  const stopsSeen = await series(`sum(sum_over_time(drain_state{state="draining"}[${Math.ceil((Date.now() - begunAt) / 1_000)}s]))`)
  console.log(`\n${options.stops} stops and 2 SIGKILLs in ${Math.round((Date.now() - begunAt) / 1_000)} s, scraped every ${intervalS} s. Scrapes that met a drain: ${Number.isNaN(stopsSeen) ? 0 : stopsSeen} (of ${Number.isNaN(seenDraining) ? 0 : seenDraining} instances)\n`)
  console.log('| | reported | in Prometheus |\n|---|---|---|')
  let isEqual = true
  for (const [what, reported, found] of rowsOfTable) {
    const equal = Math.abs(reported - found) < 1e-6
    isEqual &&= equal
    console.log(`| ${what} | ${round(reported)} | ${round(found)}${equal ? '' : ' ✗'} |`)
  }
  return isEqual
}

function round (value: number): number {
  return Math.round(value * 1_000) / 1_000
}
