// A service that keeps its orders in a file, one line each: an order is answered when its line is on disk, and a stop
// answers what has begun. What ../plain-node.ts shows to the harness.
import { existsSync, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import { ordersApi } from './orders.js'

const { PORT, ORDERS_FILE, CATALOGUE } = process.env

const text = existsSync(ORDERS_FILE) ? readFileSync(ORDERS_FILE, 'utf8') : ''
// A process that was killed may have left half a line, and the next would be appended to it.
const whole = text.slice(0, text.lastIndexOf('\n') + 1)
const entries = whole.split('\n').slice(0, -1).map(line => JSON.parse(line))
const file = await open(ORDERS_FILE, 'a')
await file.truncate(Buffer.byteLength(whole))

let lines = ''
let writing = Promise.resolve()
let stopping = false

const server = createServer(ordersApi({ catalogue: JSON.parse(CATALOGUE), entries, write, isStopping: () => stopping }))
server.listen(Number(PORT), '127.0.0.1')

process.once('SIGTERM', () => {
  stopping = true
  // Closes the connections that have nothing to do and waits for the others, whose answers say that they close.
  server.close(async () => {
    // A client that has hung up is not waited for; what it asked for is still to be written.
    await writing
    await file.close()
  })
})

/** Resolves when it is on disk. What comes while the disk is busy shares the next write. */
function write (entry) {
  if (lines === '') writing = writing.then(writeLines)
  lines += `${JSON.stringify(entry)}\n`
  return writing
}

async function writeLines () {
  const taken = lines
  lines = ''
  await file.appendFile(taken)
  await file.datasync()
}
