import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { readArguments } from '../arguments.ts'
import { printCosts } from './costs.ts'

const help = `Measures what tracing costs: CPU time per order, of the service and of Postgres, without traces and with a share of them.

node bench/orders/tracing.ts [--before commit] [--clients 64] [--rounds 6] [--turns 4] [--seconds 3] [--shares 0.01,1] [--seed 1]

--before   also the commit before tracing, with the same modules and the same schema
--rounds   each with new processes and new databases, which run at the same time
--turns    turns in a round: in each turn every process is loaded once; the sequence is shuffled
--shares   shares of traces, sampled by the service itself`

const options = readArguments({
  before: { type: 'string' },
  clients: { type: 'string', default: '64' },
  rounds: { type: 'string', default: '6' },
  turns: { type: 'string', default: '4' },
  seconds: { type: 'string', default: '3' },
  shares: { type: 'string', default: '0.01,1' },
  seed: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['clients', 'rounds', 'turns', 'seconds', 'seed'])

// A collector that takes spans and drops them.
const collector = createServer((request, response) => {
  request.resume().on('end', () => response.setHeader('content-type', 'application/json').end('{}'))
}).listen(0, '127.0.0.1')
await once(collector, 'listening')
try {
  const endpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  await printCosts([
    ...options.before === undefined ? [] : [{ name: 'before', commit: options.before }],
    { name: 'off' },
    ...options.shares.split(',').map(share => ({ name: `${Number(share) * 100} %`, settings: { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_SAMPLER: 'parentbased_traceidratio', OTEL_TRACES_SAMPLER_ARG: share } }))
  ], {
    clients: Number(options.clients),
    rounds: Number(options.rounds),
    turns: Number(options.turns),
    seconds: Number(options.seconds),
    seed: Number(options.seed)
  })
} finally {
  collector.closeAllConnections()
  collector.close()
}
