import { must } from '../fault.ts'
import type { Cell } from '../service.ts'
import { answered } from '../ask.ts'
import type { Case } from './case.ts'

/** A preHandler that ends long after the deadline. */
async function atTheDeadline (cell: Cell): Promise<void> {
  const service = await cell.start({ deadline: 1_500 })
  const client = await service.connect()
  client.send('POST /pre-handler?name=pre-handler&ms=10000 HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}')
  await service.says('begun pre-handler', 'not begun')
  service.signal()
  const { code } = await service.exit()
  await client.ended
  must(!/not.started|nothing was stored/i.test(client.received), 'told not started')
  must(code !== 0, 'exit 0')
}

async function inTime (cell: Cell): Promise<void> {
  const service = await cell.start()
  const answer = service.ask('/on-request?name=on-request&ms=1500')
  await service.says('begun on-request', 'not begun')
  service.signal()
  await answered(answer)
  await service.exit()
  service.mustCommit('on-request')
}

export const begunHook: Case = {
  name: 'begun-hook',
  says: 'An onRequest hook of 1.5 s commits before the pool closes, and its client is answered; the client of a preHandler that still runs at the deadline gets no not-started answer, and the process exits with a code other than 0',
  async run (cell) {
    await Promise.all([inTime(cell), atTheDeadline(cell)])
  }
}

/** A hook of a request whose client has gone. */
async function onSend (cell: Cell): Promise<void> {
  const service = await cell.start()
  await service.beginAndLeave('/on-send', 'audit', 800)
  service.signal()
  await service.exit()
  service.mustCommit('audit')
}

/** A hook of the last request, which is answered. */
async function onResponse (cell: Cell): Promise<void> {
  const service = await cell.start()
  await answered(service.ask('/on-response?name=audit&ms=800'))
  await service.says('begun audit', 'not begun')
  service.signal()
  await service.exit()
  service.mustCommit('audit')
}

export const afterHooks: Case = {
  name: 'after-hooks',
  says: 'An onSend hook of 0.8 s, whose client has hung up, and an onResponse hook of 0.8 s after the last reply commit before the pool closes',
  async run (cell) {
    await Promise.all([onSend(cell), onResponse(cell)])
  }
}
