import { setTimeout as delay } from 'node:timers/promises'
import { now } from '../history.ts'
import { between, type Scenario } from './fault.ts'

/** The consumer is down for a while: deliveries are cut, even during an answer. The service must go on taking orders. */
const broker: Scenario = {
  name: 'broker',
  needs: { consumer: true },
  strikes: 'broker',
  rest: [500, 2_000],
  async strike (world) {
    if (world.consumer === undefined) throw new Error('The scenario has no consumer to strike; its `needs` must name one.')
    // Clients place orders while the consumer is down.
    await world.burst()
    const at = now()
    await world.consumer.set('down')
    await delay(between(world.random, [1_000, 8_000]))
    await world.consumer.set('up')
    world.record({ kind: 'broker', at, exitCode: null, drainMs: null, recoveredAt: await world.allReady() })
  }
}

export default broker
