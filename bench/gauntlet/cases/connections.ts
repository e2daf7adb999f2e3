import { once } from 'node:events'
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { answered, answeredOn, ask, inTime } from '../ask.ts'
import { must } from '../fault.ts'
import type { Cell } from '../service.ts'
import type { Case } from './case.ts'

/** A connection whose request never becomes complete must not hold the stop or disturb others. */
async function incomplete (cell: Cell, bytes: string): Promise<void> {
  const service = await cell.start()
  const client = await service.connect()
  client.send(bytes)
  const { answer } = await service.begin('order', 500)
  service.signal()
  await answered(answer)
  await service.exitsClean(3_000)
  client.socket.destroy()
}

export const halfHead: Case = {
  name: 'half-head',
  says: 'Half a request head does not hold the exit for 3 s, and other requests are answered',
  run: cell => incomplete(cell, 'GET / HTTP/1.1\r\nHost: ')
}

export const halfBody: Case = {
  name: 'half-body',
  says: 'Half a request body does not hold the exit for 3 s, and other requests are answered',
  run: cell => incomplete(cell, 'POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"half":')
}

/** More than the buffers of both sockets hold. */
const largeBytes = 32 * 1024 * 1024

export const large: Case = {
  name: 'large',
  says: 'A reply of 32 MiB arrives in whole at a client that starts to read 1.5 s after the signal',
  async run (cell) {
    const service = await cell.start()
    const { socket } = await service.connect()
    socket.removeAllListeners('data').pause()
    socket.write(`GET /large?bytes=${largeBytes} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
    await service.says('begun large', 'not begun')
    service.signal()
    await sleep(1_500)
    let received = 0
    socket.on('data', ({ length }: Buffer) => { received += length }).resume()
    await inTime(service.deadline, new Promise<void>(resolve => socket.once('close', () => resolve())), 'never ends')
    must(received > largeBytes, `cut at ${Math.floor(received / 1024 / 1024)} MiB`)
  }
}

export const slowReader: Case = {
  name: 'slow-reader',
  says: 'A client that has stopped reading a reply of 32 MiB does not hold the exit until a deadline of 12 s: the process exits cleanly within 8 s',
  async run (cell) {
    const service = await cell.start({ deadline: 12_000 })
    const { socket } = await service.connect()
    socket.removeAllListeners('data').pause()
    socket.write(`GET /large?bytes=${largeBytes} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    await service.says('begun large', 'not begun')
    service.signal()
    try {
      await service.exitsClean(8_000)
    } finally {
      socket.destroy()
    }
  }
}

export const backlog: Case = {
  name: 'backlog',
  says: '20 connections that wait in the accept queue of a blocked loop at the signal are all served',
  async run (cell) {
    const service = await cell.start()
    service.tell('block')
    await service.line('blocking')
    const clients = await Promise.all(Array.from({ length: 20 }, () => service.connect()))
    for (const client of clients) client.get('/', 'Connection: close\r\n')
    await sleep(100)
    service.signal()
    if (service.has('unblocked')) throw new Error('this machine is too slow: the loop was free before the signal')
    const ends = await inTime(service.deadline + 2_000, Promise.all(clients.map(({ ended }) => ended)), 'never ends')
    const unserved = clients.flatMap(({ responses }, index) => responses[0]?.startsWith('200') ? [] : responses[0]?.slice(0, 3) ?? ends[index])
    must(unserved.length === 0, `${unserved.length} × ${unserved[0]}`)
  }
}

export const pipelined: Case = {
  name: 'pipelined',
  says: 'Three pipelined requests that have begun are all answered',
  async run (cell) {
    const service = await cell.start()
    const client = await service.connect()
    for (const name of ['first', 'second', 'third']) client.get(`/async?name=${name}&ms=500`)
    for (const name of ['first', 'second', 'third']) await service.says(`begun ${name}`, 'not begun')
    service.signal()
    const answers = (): number => client.responses.filter(response => response.startsWith('200')).length
    for (let over = false; !over && answers() < 3;) over = await Promise.race([client.ended.then(() => true), once(client.socket, 'data').then(() => false)])
    must(answers() === 3, `${answers()} of 3 answers`)
  }
}

export const expectContinue: Case = {
  name: 'continue',
  says: 'A client that got 100 Continue before the signal, and sends the body 0.3 s after it, is answered',
  async run (cell) {
    const service = await cell.start()
    const client = await service.connect()
    client.send('POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n')
    await inTime(service.deadline, client.receives('100 Continue'), 'no 100')
    service.signal()
    await sleep(300)
    client.send('{}')
    const end = await inTime(service.deadline, Promise.race([client.ended, client.receives('\r\n\r\n{')]), 'no answer')
    const answer = client.responses[1]?.slice(0, 3)
    must(answer === '200', `answer ${answer ?? end}`)
  }
}

export const linger: Case = {
  name: 'linger',
  says: 'The head of a reply was sent before the signal, and so without Connection: close: the next request on its connection, 0.3 s after the end of the reply, is answered',
  async run (cell) {
    const service = await cell.start()
    const client = await service.connect()
    client.get('/slow-body?name=body&ms=500')
    await inTime(service.deadline, client.receives('\r\n\r\n1\r\na\r\n'), 'no head')
    service.signal()
    await inTime(service.deadline, Promise.race([client.ended, client.receives('\r\n0\r\n\r\n')]), 'no end')
    must(client.received.endsWith('\r\n0\r\n\r\n'), 'cut')
    await sleep(300)
    client.get('/')
    await inTime(service.deadline, answeredOn(client, 2), 'no answer')
  }
}

export const localhost: Case = {
  name: 'localhost',
  says: 'A request in flight on the second of the two listeners of localhost is answered with Connection: close before the pool closes',
  async run (cell) {
    const service = await cell.start({ host: 'localhost' })
    const [, second] = service.urls
    must(second !== undefined, 'one listener')
    const agent = new Agent({ keepAlive: true })
    const answer = ask(`${second}/async?name=order&ms=1500`, { agent })
    await service.says('begun order', 'not begun')
    service.signal()
    const { says, connection } = await answer
    agent.destroy()
    must(says === '200', `answer ${says}`)
    service.mustCommit('order')
    must(connection === 'close', `says ${connection}`)
  }
}
