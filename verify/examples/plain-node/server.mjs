// A service that keeps its orders in a file, one line each: it answers an order when its line is on disk, and a stop answers
// the requests that have begun. The target is target.mts.
import { existsSync, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import { ordersApi } from './orders.mjs'

const { PORT, ORDERS_FILE, CATALOGUE } = process.env

const text = existsSync(ORDERS_FILE) ? readFileSync(ORDERS_FILE, 'utf8') : ''
// A killed process may have left half a line, to which the next line would be appended.
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
  // Node closes idle connections at once, even if a request has arrived that it has not read yet. So this serves for a moment longer.
  setTimeout(() => {
    // Waits for the other connections, whose answers announce the close.
    server.close(async () => {
      // close() does not wait for a client that has hung up, but its order is still to be written.
      await writing
      await file.close()
    })
  }, 500)
})

/** Resolves when the entry is on disk. Entries that arrive while the disk is busy share the next write. */
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
