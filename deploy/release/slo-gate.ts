// Asks Prometheus whether a release is allowed now. Exits with 0 for yes, 1 for no, and 2 if there is no answer.
// Needs only Node, so that a release job needs no install.
//
//   PROMETHEUS_URL=https://prometheus.example node deploy/release/slo-gate.ts

import { failedShare, objectives, releases } from '../observability/objectives.ts'

interface Gate {
  prometheus: { url: string, token: string | undefined }
  /** Further matchers of the series, such as `namespace="production"`; empty: all series. */
  selector: string
  /** The share of requests that must not fail, above 0 and below 1. */
  objective: number
  /** The window of the error budget, as a PromQL duration. */
  window: string
  /** The share of the budget that must be left. */
  budgetMin: number
  /** How far back "now" reaches, as a PromQL duration. */
  recent: string
  /** The highest burn rate now: how many times faster than the objective allows. */
  burnMax: number
}

/** One question and its answer. */
interface Finding {
  passed: boolean
  says: string
}

/** Wrong settings, or a Prometheus that did not answer the question. */
class NoAnswer extends Error {}

/** How long Prometheus may take, in ms: a release waits for it. */
const timeoutMs = 30_000

try {
  process.exitCode = await run(process.env)
} catch (error) {
  if (!(error instanceof NoAnswer)) throw error
  console.error(`${error.message}\nNothing was released, because the gate has no answer.`)
  process.exitCode = 2
}

async function run (environment: NodeJS.ProcessEnv): Promise<number> {
  const override = environment.SLO_OVERRIDE
  if (override) {
    console.log(`The gate was not asked. The reason given: ${override}`)
    return 0
  }
  const findings = await judge(gateOf(environment))
  for (const { passed, says } of findings) console.log(`${passed ? 'ok     ' : 'refused'}  ${says}`)
  if (findings.every(({ passed }) => passed)) return 0
  console.error('Nothing was released. Repair the service first. If this release is the repair, give the reason in SLO_OVERRIDE.')
  return 1
}

/** @throws NoAnswer with all faults */
function gateOf (environment: NodeJS.ProcessEnv): Gate {
  const faults: string[] = []
  const number = (name: string, defaultValue: number, fits: (value: number) => boolean, takes: string): number => {
    const text = environment[name]
    if (!text) return defaultValue
    const value = Number(text)
    if (!fits(value)) faults.push(`${name} is "${text}"; it takes ${takes}.`)
    return value
  }
  const duration = (name: string, defaultValue: string): string => {
    const text = environment[name] || defaultValue
    if (!/^\d+[smhdw]$/.test(text)) faults.push(`${name} is "${text}"; it takes a number and one of s, m, h, d, w.`)
    return text
  }

  const url = environment.PROMETHEUS_URL ?? ''
  if (!URL.canParse(url)) faults.push('PROMETHEUS_URL is not a URL; it takes the address of Prometheus, such as https://prometheus.example.')
  const gate: Gate = {
    prometheus: { url, token: environment.PROMETHEUS_TOKEN || undefined },
    selector: environment.SLO_SELECTOR ?? '',
    objective: number('SLO_OBJECTIVE', objectives.availability.objective, value => value > 0 && value < 1, 'a number between 0 and 1'),
    window: duration('SLO_WINDOW', objectives.window),
    budgetMin: number('SLO_BUDGET_MIN', releases.budgetMin, value => value >= 0 && value < 1, 'a number from 0 to below 1'),
    recent: duration('SLO_RECENT', releases.recent),
    burnMax: number('SLO_BURN_MAX', releases.burnMax, value => value > 0, 'a number above 0')
  }
  if (faults.length > 0) throw new NoAnswer(`The gate cannot be used.\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
  return gate
}

/**
 * Asks whether enough of the budget is left, and how fast it burns now. The second question catches a bad new version. At a rate
 * of 14.4, two per cent of a 30-day budget are spent in an hour, which pages somebody (Site Reliability Workbook, chapter 5).
 *
 * @throws NoAnswer
 */
async function judge ({ prometheus, selector, objective, window, budgetMin, recent, burnMax }: Gate): Promise<Finding[]> {
  const burned = async (over: string): Promise<number> => await ask(prometheus, `(${failedShare(over, { where: selector })}) / (1 - ${objective})`)
  const left = 1 - await burned(window)
  const rate = await burned(recent)
  return [
    { passed: left >= budgetMin, says: `${percent(left)} of the error budget of ${window} is left; the gate needs ${percent(budgetMin)}.` },
    { passed: rate < burnMax, says: `In the last ${recent} it burned at ${rate.toFixed(1)} times the rate that the objective allows; the gate needs less than ${burnMax}.` }
  ]
}

/**
 * One number from Prometheus: https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
 *
 * @throws NoAnswer for anything but one number
 */
async function ask ({ url, token }: Gate['prometheus'], query: string): Promise<number> {
  const asked = `Prometheus at ${url} was asked for ${query}`
  let response: Response
  let body: string
  try {
    response = await fetch(new URL('api/v1/query', url.endsWith('/') ? url : `${url}/`), {
      method: 'POST',
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      body: new URLSearchParams({ query }),
      signal: AbortSignal.timeout(timeoutMs)
    })
    body = await response.text()
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    throw new NoAnswer(`${asked}, and did not answer: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  if (!response.ok) throw new NoAnswer(`${asked}, and answered ${response.status}: ${body.slice(0, 500)}`)
  const samples = samplesOf(body)
  const value = Number(samples[0] ?? NaN)
  if (samples.length !== 1 || !Number.isFinite(value)) {
    throw new NoAnswer(`${asked}, and answered ${samples.length === 0 ? 'nothing' : samples.join(', ')}. Check that Prometheus scrapes the service, that it had requests, and that SLO_SELECTOR names it.`)
  }
  return value
}

/** The values of an instant vector; empty for anything else. */
function samplesOf (body: string): string[] {
  try {
    const { data } = JSON.parse(body) as { data: { result: Array<{ value: [time: number, value: string] }> } }
    return data.result.map(({ value: [, value] }) => value)
  } catch {
    return []
  }
}

function percent (share: number): string {
  return `${(share * 100).toFixed(1)} %`
}
