import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { observeStop } from 'fastify-drain/test'
import { answered } from '../ask.ts'
import { must } from '../fault.ts'
import { usualDeadline } from '../service.ts'
import type { Case } from './case.ts'

export const load: Case = {
  name: 'load',
  says: '20 keep-alive clients, a 200 ms transaction, SIGTERM under load: every request that was read is answered, at most 10 go unread, no connection is refused, and the process exits 0',
  async run (cell) {
    const { faults, statuses } = await observeStop({
      command: cell.command(),
      ready: /"listening at (.*)"/,
      url: '/async?name=load&ms=200',
      clients: 20,
      exitWithin: usualDeadline + 1_500
    })
    const [status] = Object.keys(statuses).filter(code => code !== '200')
    must(faults.length === 0, faults.map(({ kind, count }) => `${count} × ${kind === 'failed' || kind === 'refused' ? status : kind}`).join(', '))
  }
}

export const gone: Case = {
  name: 'gone',
  says: 'A transaction of 1.5 s whose client has hung up commits before the pool closes',
  async run (cell) {
    const service = await cell.start()
    await service.beginAndLeave('/async', 'order', 1_500)
    service.signal()
    await service.exit()
    service.mustCommit('order')
  }
}

export const hang: Case = {
  name: 'hang',
  says: 'With a handler that never ends, the process exits within a second of its deadline with a code other than 0, and has closed the pool',
  async run (cell) {
    const service = await cell.start()
    const { answer } = await service.beginHanging()
    service.signal()
    const { code } = await service.exit(service.deadline + 1_000)
    await answer
    must(code !== 0, 'exit 0')
    must(service.has('pool closed'), `exit ${code}, pool not closed`)
  }
}

export const idle: Case = {
  name: 'idle',
  says: 'With an idle connection and one that never sent a byte, the request in flight is answered, and the process exits within 3 s',
  async run (cell) {
    const service = await cell.start()
    const agent = new Agent({ keepAlive: true })
    await service.ask('/', { agent })
    const unused = await service.connect()
    const { answer } = await service.begin('order', 500)
    service.signal()
    await answered(answer)
    await service.exitsClean(3_000)
    unused.socket.destroy()
    agent.destroy()
  }
}

export const dbl: Case = {
  name: 'dbl',
  says: 'A second SIGTERM 100 ms after the first counts as the same signal: the request in flight is answered',
  async run (cell) {
    const service = await cell.start()
    const { answer } = await service.begin('order', 1_000)
    service.signal()
    await sleep(100)
    service.signal()
    await answered(answer)
  }
}

export const lateSecond: Case = {
  name: 'late-second',
  says: 'A second SIGTERM 1.5 s after the first counts as a second signal: the process exits within a second with a code other than 0',
  async run (cell) {
    const service = await cell.start()
    const { answer } = await service.beginHanging()
    service.signal()
    await Promise.race([sleep(1_500), service.ended])
    must(service.child.exitCode === null && service.child.signalCode === null, 'gone before it')
    service.signal()
    const { code } = await service.exit(1_000)
    await answer
    must(code !== 0, 'exit 0')
  }
}
