import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { answered } from '../ask.ts'
import { must } from '../fault.ts'
import type { Case } from './case.ts'

export const lameDuck: Case = {
  name: 'lame-duck',
  says: 'For 1.5 s after the signal, the readiness check fails and new connections are still served',
  async run (cell) {
    const service = await cell.start({ lameDuck: { max: 1_500 } })
    const start = performance.now()
    service.signal()
    for (;;) {
      await sleep(200)
      const ready = await service.ask('/readyz')
      const { says } = await service.ask('/')
      const elapsed = performance.now() - start
      if (elapsed > 1_300) break
      must(says === '200', `${says} after ${Math.round(elapsed)} ms`)
      must(ready.status >= 400, 'readiness says yes')
    }
  }
}

export const adaptive: Case = {
  name: 'adaptive',
  says: 'A window of up to 4 s stays open while requests arrive, and ends when none has arrived for 0.6 s',
  async run (cell) {
    const service = await cell.start({ deadline: 6_000, lameDuck: { min: 200, quiet: 600, max: 4_000 } })
    const start = performance.now()
    service.signal()
    while (performance.now() - start < 1_500) {
      const { says } = await service.ask('/')
      must(says === '200', `${says} after ${Math.round(performance.now() - start)} ms`)
      await sleep(100)
    }
    const { after } = await service.exit()
    must(after < 3_500, 'waits all the 4 s')
  }
}

export const jitter: Case = {
  name: 'jitter',
  says: '20 keep-alive clients get Connection: close one after the other, spread over 1 s of the window, and none is cut',
  async run (cell) {
    const service = await cell.start({ lameDuck: { max: 1_500, jitter: 1_000 } })
    const agents = Array.from({ length: 20 }, () => new Agent({ keepAlive: true, maxSockets: 1 }))
    await Promise.all(agents.map(agent => service.ask('/', { agent })))
    const told: number[] = []
    const start = performance.now()
    service.signal()
    await Promise.all(agents.map(async agent => {
      for (;;) {
        const { says, connection } = await service.ask('/', { agent })
        must(says === '200', `not told: ${says}`)
        if (connection === 'close') break
        must(performance.now() - start < service.deadline, 'not told')
        await sleep(50)
      }
      told.push(performance.now() - start)
      agent.destroy()
    }))
    const spread = Math.max(...told) - Math.min(...told)
    must(spread > 500, `all in ${Math.round(spread)} ms`)
  }
}

export const pressure: Case = {
  name: 'pressure',
  says: 'Under @fastify/under-pressure, whose health check reads readiness, requests that arrive in a window of 1 s are served',
  async run (cell) {
    const service = await cell.start({ pressure: true, lameDuck: { max: 1_000 } })
    // Its first check may have come before the service was ready.
    for (let tries = 0; (await service.ask('/')).status !== 200; tries++) {
      if (tries === 50) throw new Error('the service is under pressure from the start')
      await sleep(50)
    }
    const { answer } = await service.begin('order', 1_500)
    service.signal()
    await sleep(500)
    const late = await service.ask('/')
    must(late.says === '200', `${late.says} in the window`)
    await answered(answer)
  }
}

export const closeHeader: Case = {
  name: 'close-header',
  says: 'A reply that is under way at the signal says Connection: close',
  async run (cell) {
    const service = await cell.start()
    const agent = new Agent({ keepAlive: true })
    const { answer } = await service.begin('order', 500, { agent })
    service.signal()
    const { says, connection } = await answer
    agent.destroy()
    must(says === '200', `answer ${says}`)
    must(connection === 'close', `says ${connection}`)
  }
}
