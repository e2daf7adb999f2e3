import { readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { UserError } from '../user-error.ts'
import { balancerNames, usualBalancer } from './balancer.ts'
import { commandOf, type Home } from './home.ts'
import type { RunOptions } from './run.ts'
import { usualMix, type Kind } from './load/mix.ts'
import { managerNames, notAScenario, scenarioNames } from './scenarios.ts'

export function usageOf (home: Home | undefined): string {
  const controls = home && `

Controls: all of these, or one. Exit: 0 the broken promise caught each, 1 one was not caught, 2 the evidence is not sufficient.
  ${home.controlNames.join('\n  ')}`
  return `Usage: ${commandOf(home)} [options]

Starts a service on a database of its own, puts load and faults on it, and compares the answers that clients got with
what is stored. Exit: 0 every promise held, 1 one was broken, 2 the evidence is not sufficient.

  --scenario NAME  ${scenarioNames.join(', ')} (default: term);
                   or two at once, of which one strikes the service: term+database-crash;
                   or several of these, one after another: term,kill,brownout:answers-cut
  --balancer NAME  before several instances, with its settings below deploy: ${balancerNames.join(', ')}
                   (default: ${usualBalancer})
  --manager NAME   what promotes the standby in a failover: ${managerNames.join(', ')} (default: harness)
  --duration N     seconds of load (default: 20)
  --orders N       ends the load earlier, once this many orders were acknowledged and there were as many faults as --faults says
  --faults N
  --rate N         arrivals per second (default: 200); max: each client sends its next request as soon as it has its answer
  --mix KIND=N     another share of a kind of arrivals; may come several times: ${Object.entries(usualMix).map(([kind, share]) => `${kind} ${share}`).join(', ')}
  --clients N      connections (default: 64)
  --seed N         seed of load and faults; the same seed sends the same requests (default: another one each time)
  --out DIR        folder for the evidence and the report; empty or new (default: below .verify/)
  --target FILE    the service to prove: a description in YAML or JSON, or a module${home === undefined ? '' : ' (default: the one of this repository)'}
  --env NAME=VALUE a setting of the service, in addition to those of its target; may be repeated
  --judge DIR      judges the evidence of a run again (without any other option)
  --try            sends one of each request, and shows the request, the answer and how verify reads it; judges nothing
                   (only with --target, --env, --out)
  --control NAME   tests the proof itself: breaks something on purpose, which verify must find (only with --seed, --out)
  --help${controls ?? ''}`
}

/** All faults of the arguments at once. */
export class UsageError extends UserError {
  constructor (faults: readonly string[], home?: Home) {
    super(`The arguments cannot be used; nothing was started.\n${faults.map(fault => `  - ${fault}`).join('\n')}\n\n${usageOf(home)}`)
    this.name = 'UsageError'
  }
}

const options = {
  scenario: { type: 'string' },
  balancer: { type: 'string' },
  manager: { type: 'string' },
  duration: { type: 'string' },
  rate: { type: 'string' },
  clients: { type: 'string' },
  seed: { type: 'string' },
  out: { type: 'string' },
  target: { type: 'string' },
  env: { type: 'string' },
  orders: { type: 'string' },
  faults: { type: 'string' },
  mix: { type: 'string' },
  judge: { type: 'string' },
  control: { type: 'string' },
  try: { type: 'boolean' },
  help: { type: 'boolean' }
} as const

/** Runs all controls or one. */
export interface ControlArguments {
  readonly control: string
  readonly directory: string
  readonly seed: number
}

/** Judges the evidence of a run again. */
export interface JudgeArguments {
  readonly judge: string
}

/** Sends one of each request to a service. */
export interface TrialArguments extends Pick<RunOptions, 'targetFile' | 'env' | 'directory'> {
  readonly trial: true
}

/**
 * @param home absent: in the installed package
 * @returns 'help' if `--help` was given
 * @throws UsageError
 */
export function readArguments (args: string[], home?: Home): Omit<RunOptions, 'progress'> | ControlArguments | TrialArguments | JudgeArguments | 'help' {
  // Not strict: that stops at the first fault.
  const { tokens } = parseArgs({ args, options, strict: false, tokens: true })
  const faults: string[] = []
  const given: Partial<Record<string, string>> = {}
  const env: Record<string, string> = {}
  let isTrial = false
  const setting = (text: string): void => {
    const [, name, value] = /^([^=]+)=([^]*)$/.exec(text) ?? []
    if (name === undefined || value === undefined) faults.push(`--env is "${text}"; it takes NAME=VALUE.`)
    else env[name] = given.env = value
  }
  const mix: Partial<Record<Kind, number>> = {}
  const share = (text: string): void => {
    const [, name = '', value] = /^([^=]+)=(\d+)$/.exec(text) ?? []
    if (!Object.hasOwn(usualMix, name)) faults.push(`--mix is "${text}"; it takes KIND=SHARE, of ${Object.keys(usualMix).join(', ')}.`)
    else mix[name as Kind] = Number(given.mix = value)
  }
  for (const token of tokens) {
    if (token.kind === 'positional') faults.push(`"${token.value}" belongs to no option.`)
    if (token.kind !== 'option') continue
    if (token.name === 'help') return 'help'
    if (!Object.hasOwn(options, token.name)) faults.push(`There is no option ${token.rawName}.`)
    else if (token.name === 'try') isTrial = true
    else if (token.value === undefined || token.value === '') faults.push(`${token.rawName} needs a value.`)
    else if (token.name === 'env') setting(token.value)
    else if (token.name === 'mix') share(token.value)
    else given[token.name] = token.value
  }

  function whole (name: keyof typeof options, usual: number, min: number, max: number): number {
    const text = given[name]
    if (text === undefined) return usual
    const value = /^\d+$/.test(text) ? Number(text) : NaN
    if (!(value >= min && value <= max)) faults.push(`--${name} is "${text}"; it takes a whole number from ${min} to ${max}.`)
    return value
  }

  const { scenario = 'term', control } = given
  const why = notAScenario(scenario)
  if (why !== undefined) faults.push(`--scenario is "${scenario}"; ${why}.`)
  const balancer = balancerNames.find(name => name === (given.balancer ?? usualBalancer))
  if (given.balancer !== undefined && !scenario.split(/[+,]/).some(part => part === 'rolling' || part === 'all')) faults.push(`--balancer goes with --scenario rolling or all: in ${scenario} there is none.`)
  if (balancer === undefined) faults.push(`--balancer is "${given.balancer}"; it takes one of ${balancerNames.join(', ')}.`)
  const manager = managerNames.find(name => name === (given.manager ?? 'harness'))
  if (manager === undefined) faults.push(`--manager is "${given.manager}"; it takes one of ${managerNames.join(', ')}.`)
  if (given.manager !== undefined && !scenario.split(/[+,]/).includes('failover')) faults.push(`--manager goes with --scenario failover: in ${scenario} nothing is promoted by it.`)
  if ((given.orders === undefined) !== (given.faults === undefined)) faults.push('--orders and --faults go together.')
  const directory = resolve(given.out ?? join('.verify', `${new Date().toISOString().slice(0, 19).replaceAll(':', '-')}-${isTrial ? 'try' : control ?? scenario}`))
  if (!isFree(directory)) faults.push(`--out is ${directory}, which is not an empty folder.`)

  const seed = whole('seed', Math.floor(Math.random() * 2 ** 32), 0, 2 ** 32 - 1)
  if (control !== undefined) {
    if (home === undefined) faults.push('--control breaks the service of the repository that this package comes from: run it there.')
    else if (control !== 'all' && !home.controlNames.includes(control)) faults.push(`--control is "${control}"; it takes all or one of ${home.controlNames.join(', ')}.`)
    for (const name of Object.keys(given)) {
      if (!['control', 'seed', 'out'].includes(name)) faults.push(`--${name} cannot go with --control: each control has its own.`)
    }
  }
  if (isTrial) {
    for (const name of Object.keys(given)) {
      if (!['target', 'env', 'out'].includes(name)) faults.push(`--${name} cannot go with --try: there is no load and no fault.`)
    }
  }
  const targetFile = given.target === undefined ? home?.targetFile : resolve(given.target)
  if (targetFile === undefined && control === undefined && given.judge === undefined) faults.push('--target is missing: the description of the service, for example --target verify.yaml.')
  const read = {
    scenario,
    balancer: balancer ?? usualBalancer,
    manager: manager ?? 'harness',
    directory,
    targetFile: targetFile ?? '',
    env,
    duration: 1_000 * whole('duration', 20, 1, 86_400),
    rate: given.rate === 'max' ? 'max' as const : whole('rate', 200, 1, 10_000),
    ...given.mix !== undefined && { mix },
    ...given.orders !== undefined && { enough: { orders: whole('orders', 0, 1, 1e9), faults: whole('faults', 0, 0, 1e6) } },
    clients: whole('clients', 64, 1, 1_000),
    seed
  }
  if (given.judge !== undefined && Object.keys(given).length > 1) faults.push('--judge goes with nothing else.')
  if (faults.length > 0) throw new UsageError(faults, home)
  if (given.judge !== undefined) return { judge: resolve(given.judge) }
  if (isTrial) return { trial: true, targetFile: read.targetFile, env, directory }
  return control === undefined ? read : { control, directory, seed }
}

function isFree (directory: string): boolean {
  try {
    return readdirSync(directory).length === 0
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ENOENT'
  }
}
