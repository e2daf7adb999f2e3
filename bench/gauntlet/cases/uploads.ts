import { setTimeout as sleep } from 'node:timers/promises'
import { answeredOn, inTime } from '../ask.ts'
import type { Case } from './case.ts'

export const uploadStall: Case = {
  name: 'upload-stall',
  says: 'A client whose upload the handler reads as a stream pauses for 1.5 s after the signal, then sends the rest, and is answered',
  async run (cell) {
    const service = await cell.start()
    const client = await service.connect()
    client.send('POST /upload-stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: 8\r\n\r\nhalf')
    await service.says('begun upload', 'not begun')
    service.signal()
    await sleep(1_500)
    client.send('half')
    await inTime(service.deadline, answeredOn(client), 'no answer')
  }
}

/** The parts of the body, one every 100 ms. */
const pieces = 20
const onePiece = 'x'.repeat(1_000)

export const uploadFlow: Case = {
  name: 'upload-flow',
  says: 'A JSON upload, which the body parser collects, arrives in pieces for 2 s after the signal, and is answered',
  async run (cell) {
    const service = await cell.start()
    const client = await service.connect()
    client.send(`POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${pieces * onePiece.length + 2}\r\n\r\n"`)
    await service.says('incoming request', 'not read')
    service.signal()
    for (let piece = 0; piece < pieces && client.received === '' && !client.socket.destroyed; piece++) {
      await sleep(100)
      client.send(onePiece)
    }
    client.send('"')
    await inTime(service.deadline, answeredOn(client), 'no answer')
  }
}
