import { join } from 'node:path'
import { signToken } from '../../auth/local-token.ts'
import { secret } from '../../proof/order-service.ts'
import { readArguments } from '../arguments.ts'
import { Contest } from './contest.ts'
import { entrantOf } from './costs.ts'
import { median } from './figures.ts'
import { runOpenLoad } from './load-process.ts'

const help = `Puts one greedy customer beside 50 fair ones, and prints the latency of the fair ones in multiples of their latency without it.

node bench/orders/greedy.ts [--rate 500] [--connections 1] [--pipelined 20000] [--turns 6] [--seconds 5]

--rate         orders per second of the fair ones together
--connections  connections of the greedy one
--pipelined    requests that it sends on each connection before it has the first answer`

const options = readArguments({
  rate: { type: 'string', default: '500' },
  connections: { type: 'string', default: '1' },
  pipelined: { type: 'string', default: '20000' },
  turns: { type: 'string', default: '6' },
  seconds: { type: 'string', default: '5' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['rate', 'connections', 'pipelined', 'turns', 'seconds'])
const [rate, connections, pipelined, turns, seconds] = [
  Number(options.rate),
  Number(options.connections),
  Number(options.pipelined),
  Number(options.turns),
  Number(options.seconds)
]

const contest = await Contest.create()
try {
  const database = await contest.createDatabase('uniform')
  const { contestant } = entrantOf('greedy', {}, join(import.meta.dirname, '../..'))
  const service = await contest.startService(contestant, database, 200 + connections)
  const { port } = service
  const tokens = Array.from({ length: 50 }, (_, n) => signToken({ secret, sub: `fair-${n}` }))
  const greedy = [signToken({ secret, sub: 'greedy' })]
  await runOpenLoad({ port, tokens, connections: 64, pipelined: 1, timeoutMs: 30_000, retriesMax: 0, durationMs: 6_000 })
  const fair = { port, tokens, connections: 100, rate, pipelined: 1, timeoutMs: 10_000, retriesMax: 0, durationMs: seconds * 1_000 }
  const ratios: number[] = []
  for (let turn = 1; turn <= turns; turn++) {
    const quiet = await runOpenLoad(fair)
    const [beside, flood] = await Promise.all([
      runOpenLoad(fair),
      runOpenLoad({ port, tokens: greedy, connections, pipelined, timeoutMs: 60_000, retriesMax: 0, durationMs: seconds * 1_000 })
    ])
    ratios.push(beside.p99Ms / quiet.p99Ms)
    console.log(`turn ${turn}: p99 of the fair ones ${quiet.p99Ms.toFixed(1)} ms quiet, ${beside.p99Ms.toFixed(1)} ms beside the greedy one, who placed ${Math.round(flood.placed / seconds)}/s; p50 ${quiet.p50Ms.toFixed(1)} and ${beside.p50Ms.toFixed(1)} ms; fair answers ${JSON.stringify(beside.kinds)}`)
  }
  console.log(`p99 beside ÷ p99 quiet: ${median(ratios).toFixed(2)} ×, the median of ${turns} turns`)
  await service.stop()
} finally {
  await contest.close()
}
