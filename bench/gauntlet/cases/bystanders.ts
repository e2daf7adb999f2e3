import { setTimeout as sleep } from 'node:timers/promises'
import { answered } from '../ask.ts'
import { must } from '../fault.ts'
import type { Case } from './case.ts'

export const otherSignals: Case = {
  name: 'other-signals',
  says: 'A service with its own listener for SIGHUP, which reopens its log files, goes on serving after SIGHUP; SIGHUP 50 ms after SIGTERM cuts no request',
  async run (cell) {
    const service = await cell.start({ reopensLogs: true })
    service.signal('SIGHUP')
    await service.says('log files reopened', 'not heard')
    await sleep(300)
    const { says } = await service.ask('/')
    must(says === '200', `${says} after SIGHUP`)
    const { answer } = await service.begin('order', 1_000)
    service.signal()
    await sleep(50)
    service.signal('SIGHUP')
    await answered(answer)
    await service.exitsClean(service.deadline)
  }
}

export const foreignClose: Case = {
  name: 'foreign-close',
  says: 'Other code calls app.close() 0.3 s after the signal, in a window of 1.5 s: requests that arrive in the window are served, and the request in flight is answered',
  async run (cell) {
    const service = await cell.start({ lameDuck: { max: 1_500 } })
    const { answer } = await service.begin('order', 1_200)
    service.signal()
    await sleep(300)
    service.tell('close')
    for (let request = 0; request < 3; request++) {
      await sleep(250)
      const { says } = await service.ask('/')
      must(says === '200', `${says} in the window`)
    }
    await answered(answer)
  }
}
