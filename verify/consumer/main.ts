import { closeSync, fdatasyncSync, openSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { now } from '../history.ts'
import type { ConsumerSettings, Received, TellConsumer } from './settings.ts'

// The receiver of the service's publisher, as a process of its own: its file shows what was delivered, whatever the service says.

const { ledgerFile, port }: ConsumerSettings = JSON.parse(process.argv[2] ?? '')
const ledger = openSync(ledgerFile, 'ax')
let isDown = false

const server = createServer((request, response) => {
  receive(request, response).catch(() => response.destroy())
})
server.listen(port, '127.0.0.1', () => process.send?.('ready'))

process.on('message', (message: TellConsumer) => {
  isDown = message === 'down'
  // A delivery that is under way gets no answer.
  if (isDown) server.closeAllConnections()
  process.send?.(message)
})
// Without its parent, nothing would end it.
process.once('disconnect', () => {
  closeSync(ledger)
  process.exit()
})

async function receive (request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (isDown) {
    request.socket.destroy()
    return
  }
  const body = await text(request)
  const line: Received = { at: now(), body }
  writeFileSync(ledger, JSON.stringify(line) + '\n')
  // Written before the answer, so that an acknowledged delivery is never lost.
  fdatasyncSync(ledger)
  response.writeHead(204).end()
}
