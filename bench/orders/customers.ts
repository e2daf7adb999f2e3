import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { readArguments } from '../arguments.ts'
import { printCosts } from './costs.ts'

const help = `Measures what looking customers up costs: CPU time per order, of the service and of Postgres, without a directory and with one.

node bench/orders/customers.ts [--before commit] [--clients 64] [--rounds 6] [--turns 4] [--seconds 3] [--seed 1]

--before   also the commit before payments, with the same modules and the same schema
--rounds   each with new processes and new databases, which run at the same time
--turns    turns in a round: in each turn every process is loaded once; the sequence is shuffled`

const options = readArguments({
  before: { type: 'string' },
  clients: { type: 'string', default: '64' },
  rounds: { type: 'string', default: '6' },
  turns: { type: 'string', default: '4' },
  seconds: { type: 'string', default: '3' },
  seed: { type: 'string', default: '1' },
  help: { type: 'boolean', short: 'h', default: false }
}, help, ['clients', 'rounds', 'turns', 'seconds', 'seed'])

// Accepts every customer.
let asked = 0
const directory = createServer((request, response) => {
  asked++
  const id = decodeURIComponent(request.url?.split('/').at(-1) ?? '')
  response.setHeader('content-type', 'application/json').end(JSON.stringify({ id, status: 'active' }))
}).listen(0, '127.0.0.1')
await once(directory, 'listening')
try {
  const url = `http://127.0.0.1:${(directory.address() as AddressInfo).port}`
  await printCosts([
    ...options.before === undefined ? [] : [{ name: 'before', commit: options.before }],
    { name: 'off' },
    { name: 'checked', settings: { CUSTOMERS_URL: url } }
  ], {
    clients: Number(options.clients),
    rounds: Number(options.rounds),
    turns: Number(options.turns),
    seconds: Number(options.seconds),
    seed: Number(options.seed)
  })
  console.log(`\n  The directory was asked ${asked} times.`)
} finally {
  directory.closeAllConnections()
  directory.close()
}
