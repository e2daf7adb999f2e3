import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { freePort } from '../verify/free-port.ts'
import { startProgram } from './program.ts'

/** Debian's package has the server and promtool. */
export const needsPrometheus = { skip: spawnSync('prometheus', ['--version']).error !== undefined && 'prometheus is not installed' }

export interface PrometheusOptions {
  /** The addresses that it scrapes, as `127.0.0.1:3001`. */
  targets?: string[]
  /** Time between two scrapes. Default: 200. */
  scrapeIntervalMs?: number
  /** Earlier samples that it starts with, as OpenMetrics with timestamps, without the end mark. */
  history?: string
}

/** Starts a real Prometheus, which ends with the test. */
export async function startPrometheus (
  t: Test,
  { targets = [], scrapeIntervalMs = 200, history }: PrometheusOptions = {}
): Promise<{ url: string, query (promql: string): Promise<Array<{ metric: Record<string, string>, value: number }>> }> {
  const directory = t.testdir()
  const file = (name: string, text: string): string => {
    const path = join(directory, name)
    writeFileSync(path, text)
    return path
  }
  const data = join(directory, 'data')
  if (history !== undefined) execFileSync('promtool', ['tsdb', 'create-blocks-from', 'openmetrics', '--quiet', file('history.txt', `${history}# EOF\n`), data])
  // JSON is YAML.
  const configuration = file('prometheus.yaml', JSON.stringify({ scrape_configs: [{ job_name: 'last-orders', scrape_interval: `${scrapeIntervalMs}ms`, scrape_timeout: `${scrapeIntervalMs}ms`, static_configs: [{ targets }] }] }))
  const url = `http://127.0.0.1:${await freePort()}`
  const { child } = startProgram(t, [
    'prometheus', `--config.file=${configuration}`, `--storage.tsdb.path=${data}`, `--web.listen-address=${new URL(url).host}`, '--log.level=error'
  ], { stdio: ['ignore', 'ignore', 'inherit'], endBy: 'SIGTERM' })
  while (!await fetch(`${url}/-/ready`).then(({ ok }) => ok, () => false)) {
    if (child.exitCode !== null) throw new Error(`Prometheus ended with exit code ${child.exitCode}.`)
    await delay(50)
  }
  return {
    url,
    async query (promql) {
      const response = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query: promql }) })
      const { data, error } = await response.json() as { data?: { result: Array<{ metric: Record<string, string>, value: [number, string] }> }, error?: string }
      if (data === undefined) throw new Error(`${promql}: ${error}`)
      return data.result.map(({ metric, value: [, value] }) => ({ metric, value: Number(value) }))
    }
  }
}
