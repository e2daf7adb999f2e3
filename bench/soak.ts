import { availableParallelism } from 'node:os'
import { giveUp, readArguments } from './arguments.ts'
import { random } from '../verify/random.ts'
import { nothing, stopUnderLoad } from './soak/stop.ts'
import type { Outcome } from './soak/stop.ts'

const help = `Stops a service under load again and again, and exits with 1 if a request that had begun was lost.

npm run soak -- [--stops 1000] [--parallel n] [--subject fastify-drain|bare] [--seed n] [--json]

--parallel  concurrent services; one for each core by default
--subject   bare: app.close() at SIGTERM, to see that this can fail
--seed      seed of the random moments of the signals and lengths of the requests`

const options = readArguments({
  stops: { type: 'string', default: '1000' },
  parallel: { type: 'string', default: String(availableParallelism()) },
  subject: { type: 'string', default: 'fastify-drain' },
  seed: { type: 'string', default: '1' },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['stops', 'parallel', 'seed'])

if (!['fastify-drain', 'bare'].includes(options.subject)) giveUp(`There is no subject '${options.subject}'.`, help)
const stops = Number(options.stops)
const total: Outcome = { ...nothing }
/** Stops in which a connection was reset before the service had accepted it. */
let stopsWithResets = 0
const breaches: string[] = []
let begun = 0
let done = 0

await Promise.all(Array.from({ length: Number(options.parallel) }, async () => {
  while (begun < stops) {
    const stop = ++begun
    const { outcome, breaches: found } = await stopUnderLoad(options.subject, random(Number(options.seed) + stop))
    breaches.push(...found.map(what => `stop ${stop}: ${what}`))
    for (const key of Object.keys(outcome) as Array<keyof Outcome>) total[key] += outcome[key]
    if (outcome.resetUnaccepted > 0) stopsWithResets++
    done++
    progress(`${done} of ${stops} stops, ${total.requests} requests, ${breaches.length} breaches`)
  }
}))
if (process.stderr.isTTY) process.stderr.write('\n')

if (options.json) console.log(JSON.stringify({ ...options, node: process.version, stopsWithResets, ...total, breaches }, null, 2))
else print()
process.exitCode = breaches.length > 0 ? 1 : 0

function print (): void {
  const share = (total.resetUnaccepted / total.requests * 1_000_000).toFixed(0)
  console.log(`
${stops} SIGTERMs under load, ${options.subject}, Node ${process.version}, seed ${options.seed}

  requests                                      ${total.requests}
    answered                                    ${total.answered}
    refused, not begun                          ${total.refused}
    left by their client                        ${total.left}
    reset before the connection was accepted    ${total.resetUnaccepted} (${share} in a million, in ${stopsWithResets} stops)
    lost on an accepted connection, not begun   ${total.resetUnbegun}
  must be 0
    begun and unanswered                        ${total.unanswered}
    begun and not committed                     ${total.uncommitted}
    answered untruly                            ${total.untrue}
    exit codes other than 0                     ${total.failedExits}
    hangs                                       ${total.hangs}

${breaches.length === 0 ? 'Nothing begun was lost. To see that this can fail: npm run soak -- --subject bare --stops 20' : breaches.slice(0, 20).join('\n')}`)
}

function progress (line: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`)
  else if (done % 50 === 0) process.stderr.write(`${line}\n`)
}
