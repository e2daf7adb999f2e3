import { join } from 'node:path'
import { signToken } from '../../auth/local-token.ts'
import { secret } from '../../proof/order-service.ts'
import { readArguments } from '../arguments.ts'
import { Contest } from './contest.ts'
import { entrantOf } from './costs.ts'
import { rssBytesOf } from './cpu.ts'
import { runOpenLoad } from './load-process.ts'
import type { OpenLoadResult } from './open-load.ts'
import { whole } from './table.ts'

const help = `Sends more orders than the service can place, and prints how many it still places, its answers, the latency of others, and its recovery.

node bench/orders/storm.ts [--times 5] [--seconds 60] [--connections 900]

--times   new orders per second, in multiples of its capacity, whatever happens to earlier ones. Clients hang up after a second,
          and retry three times: after Retry-After, with jitter, and within a budget of a fifth of the orders`

const options = readArguments({
  times: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '60' },
  connections: { type: 'string', default: '900' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['times', 'seconds', 'connections'])
const [times, seconds, connections] = [Number(options.times), Number(options.seconds), Number(options.connections)]

/** Another customer meanwhile, with ten orders a second on keep-alive connections. */
const others = { rate: 10, connections: 8, pipelined: 1, timeoutMs: 10_000, retriesMax: 0 }
const definite = /^(201|4\d\d [a-z]|503 not-started|503 outcome-unknown)/

const contest = await Contest.create()
try {
  const database = await contest.createDatabase('uniform')
  // The limits of production.
  const { contestant } = entrantOf('storm', { MAX_CONNECTIONS: '1000', REQUEST_TIMEOUT_MS: '10000', DRAIN_DEADLINE_MS: '25000' }, join(import.meta.dirname, '../..'))
  const service = await contest.startService(contestant, database, connections)
  const { port } = service
  const tokens = Array.from({ length: 500 }, (_, n) => signToken({ secret, sub: `customer-${n}` }))
  const other = [signToken({ secret, sub: 'other' })]
  const closed = { port, tokens, connections: 256, pipelined: 1, timeoutMs: 10_000, retriesMax: 0 }
  await runOpenLoad({ ...closed, durationMs: 8_000 })
  const capacity = (await runOpenLoad({ ...closed, durationMs: 10_000 })).placed / 10
  const quiet = await runOpenLoad({ port, tokens: other, ...others, durationMs: 5_000 })
  console.log(`capacity: ${whole(capacity)} orders/s; another customer's p99 while it is quiet ${quiet.p99Ms.toFixed(1)} ms; ${megabytes(service.pid)}`)

  let most = 0
  const watching = setInterval(() => { most = Math.max(most, rssBytesOf(service.pid)) }, 250)
  const [storm, beside] = await Promise.all([
    runOpenLoad({ port, tokens, connections, rate: Math.round(capacity * times), durationMs: seconds * 1_000, pipelined: 1, timeoutMs: 1_000, retriesMax: 3 }),
    runOpenLoad({ port, tokens: other, ...others, durationMs: seconds * 1_000 })
  ])
  clearInterval(watching)
  console.log(`storm: ${whole(storm.offered / seconds)} orders/s begun, ${whole(storm.sent / seconds)} requests/s sent, ${whole(storm.placed / seconds)} placed/s: ${(storm.placed / seconds / capacity).toFixed(2)} of capacity; p50 ${storm.p50Ms.toFixed(0)} ms, p99 ${storm.p99Ms.toFixed(0)} ms; the generator used ${storm.cpuShare.toFixed(2)} CPUs; ${whole(most / 1e6)} MB at most`)
  tell('  answers', storm)
  console.log(`others: p99 ${beside.p99Ms.toFixed(1)} ms`)
  tell('  answers', beside)
  for (let second = 1; second <= 10; second++) {
    const { p99Ms } = await runOpenLoad({ port, tokens: other, ...others, durationMs: 1_000 })
    console.log(`${second} s after: p99 ${p99Ms.toFixed(1)} ms, ${megabytes(service.pid)}`)
    if (second > 1 && p99Ms < 3 * quiet.p99Ms) break
  }
  await service.stop()
} finally {
  await contest.close()
}

function tell (what: string, { kinds }: OpenLoadResult): void {
  const answers = Object.entries(kinds).filter(([kind]) => /^\d/.test(kind))
  const vague = answers.filter(([kind]) => !definite.test(kind))
  console.log(`${what}: ${Object.entries(kinds).map(([kind, count]) => `${kind} ${whole(count)}`).join(', ')}; ${vague.length === 0 ? 'every answer is definite' : `not definite: ${vague.map(([kind]) => kind).join(', ')}`}`)
}

function megabytes (pid: number): string {
  return `${whole(rssBytesOf(pid) / 1e6)} MB`
}
