import { parseArgs } from 'node:util'
import { loadConfig, readEnvironment } from '../../config.ts'
import { forPeople, UserError } from '../../user-error.ts'

const run = 'npm run -s events --'

const usage = `Usage, on the machine of the service, or with OPS_TOKEN and --ops:

  ${run} list [--type paid] [--reason 'part of it'] [--limit 100] [--cursor C]
  ${run} revive ORDER VERSION
  ${run} revive [--type paid] [--reason 'part of it'] | --all
  ${run} discard ORDER VERSION

  --ops URL   the ops port; by default that of OPS_HOST and OPS_PORT`

interface Dead { orderId: string, version: number, type: string, deadAt: string, attempts: number, reason: string | null, waiting: number }

/** The service did not do it: exit code 1. */
class Refused extends UserError {}

/** The command line is wrong: exit code 2. */
class Misused extends UserError {}

try {
  console.log(await main(process.argv.slice(2)))
} catch (error) {
  console.error(error instanceof Misused ? `${error.message}\nNothing was changed.\n\n${usage}` : forPeople(error))
  process.exitCode = error instanceof Misused ? 2 : 1
}

async function main (args: string[]): Promise<string> {
  const { values, positionals: [command, ...event] } = parse(args)
  if (values.help === true) return usage
  const { ops, type, reason, all, limit, cursor } = values
  const ask = asker(ops)
  if (command === 'list' && event.length === 0) return await list(ask, without({ type, reason, limit, cursor }))
  if (command === 'revive' && event.length === 0) {
    if (all !== true && type === undefined && reason === undefined) throw new Misused('Which ones? Name an order and a version, --type, --reason, or --all.')
    return await reviveSome(ask, without({ type, reason, all }))
  }
  if (command === 'revive' || command === 'discard') return await change(ask, command, event)
  throw new Misused(command === undefined ? 'There is no command.' : `There is no command '${[command, ...event].join(' ')}'.`)
}

type Ask = <T>(method: 'GET' | 'POST', path: string, body?: object) => Promise<T>

async function list (ask: Ask, filter: Record<string, string>): Promise<string> {
  const { events, next } = await ask<{ events: Dead[], next: string | null }>('GET', `/events/dead?${new URLSearchParams(filter).toString()}`)
  const [first] = events
  if (first === undefined) return 'No such event is dead. There is nothing to do.'
  const { cursor: _, ...same } = filter
  const options = optionsOf(same)
  return [
    table([
      ['ORDER', 'VERSION', 'TYPE', 'DIED', 'TRIED', 'WAITING', 'REASON'],
      ...events.map(({ orderId, version, type, deadAt, attempts, waiting, reason }) => [orderId, String(version), type, deadAt, String(attempts), String(waiting), (reason ?? '').replaceAll(/\s+/g, ' ').slice(0, 80)])
    ]),
    '',
    'WAITING: later events of the order, which wait for this one. Next:',
    '',
    `  ${run} revive ${first.orderId} ${first.version}    # publishes it, then those that wait for it`,
    `  ${run} revive --type ${first.type}    # all of a type; --reason for all with a reason; --all`,
    `  ${run} discard ${first.orderId} ${first.version}    # never publishes it; those that wait for it go on`,
    ...next === null ? [] : [`  ${run} list ${options}--cursor ${next}    # the next page`]
  ].join('\n')
}

async function change (ask: Ask, command: 'revive' | 'discard', [orderId, version, ...rest]: string[]): Promise<string> {
  if (orderId === undefined || !/^\d+$/.test(version ?? '') || rest.length > 0) throw new Misused(`${command} takes the id of an order and a version.`)
  const { state, changed } = await ask<{ state: string, changed: boolean }>('POST', `/events/dead/${encodeURIComponent(orderId)}/${version}/${command}`)
  const event = `Event ${version} of order ${orderId}`
  const became = !changed ? `${event} was not dead any more: it is ${state}. Nothing was changed.` : command === 'revive' ? `${event} was revived. It is published next.` : `${event} was discarded. It is never published; the events behind it go on.`
  return `${became}\n\nWhat is left: ${run} list`
}

async function reviveSome (ask: Ask, filter: Record<string, string>): Promise<string> {
  let total = 0
  for (let more = true; more;) {
    const answer = await ask<{ revived: number, more: boolean }>('POST', '/events/dead/revive', { ...filter, ...filter.all !== undefined && { all: true } })
    total += answer.revived
    more = answer.more
  }
  return `${total} dead events were revived. They are published next, and the events behind them follow.\n\nWhat is left, or has died again: ${run} list`
}

function asker (url: string | undefined): Ask {
  const environment = readEnvironment()
  // Only the settings that it needs: the service itself reports faults in others.
  const { ops } = loadConfig({
    OPS_HOST: environment.OPS_HOST,
    OPS_PORT: environment.OPS_PORT,
    OPS_TOKEN: environment.OPS_TOKEN,
    OPS_TOKEN_FILE: environment.OPS_TOKEN_FILE
  })
  const here = ['0.0.0.0', '::'].includes(ops.host) ? '127.0.0.1' : ops.host
  const origin = url ?? `http://${here.includes(':') ? `[${here}]` : here}:${ops.port}`
  if (!URL.canParse(origin)) throw new Misused(`--ops is '${origin}', which is no URL.`)
  return async <T>(method: string, path: string, body?: object) => {
    const response = await fetch(new URL(path, origin), {
      method,
      headers: { ...ops.token !== undefined && { authorization: `Bearer ${ops.token}` }, ...body !== undefined && { 'content-type': 'application/json' } },
      ...body !== undefined && { body: JSON.stringify(body) }
    }).catch((error: Error) => {
      const cause = error.cause instanceof Error ? error.cause.message : error.message
      throw new Refused(`The ops port of the service did not answer at ${origin} (${cause}). ${method === 'GET' ? 'Nothing was read.' : 'The change may have been made; repeating the command changes nothing twice.'}\nStart the service, or name its ops port: ${run} … --ops http://HOST:PORT`)
    })
    const answer = await response.json().catch(() => ({})) as T & { detail?: string }
    if (!response.ok) throw new Refused(`${answer.detail ?? `The ops port at ${origin} answered ${response.status}. Nothing was changed.`}${response.status === 401 || response.status === 403 ? '\nRun it on the machine of the service, or set OPS_TOKEN here and there.' : `\nWhat is dead: ${run} list`}`)
    return answer
  }
}

function parse (args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { type: { type: 'string' }, reason: { type: 'string' }, limit: { type: 'string' }, cursor: { type: 'string' }, ops: { type: 'string' }, all: { type: 'boolean' }, help: { type: 'boolean' } }
    })
  } catch (error) {
    throw new Misused(error instanceof Error ? error.message : String(error))
  }
}

function without (options: Record<string, string | boolean | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined).map(([name, value]) => [name, String(value)]))
}

function optionsOf (filter: Record<string, string>): string {
  return Object.entries(filter).map(([name, value]) => `--${name} '${value.replaceAll("'", "'\\''")}' `).join('')
}

function table (rows: string[][]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0))) ?? []
  return rows.map(row => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()).join('\n')
}
