import type { Scenario } from './fault.ts'

/** Each instance in turn is told to stop, and is back behind the balancer before the next one stops. */
const rolling: Scenario = {
  name: 'rolling',
  needs: { instances: 3 },
  strikes: 'service',
  invisible: true,
  rest: [200, 1_000],
  async strike ({ instances, takeOut, start, allReady, burst, record }) {
    for (const instance of instances) {
      await takeOut(instance)
      await burst()
      const { at, exitCode, drainMs, phases, report } = await instance.stop('SIGTERM')
      await start(instance)
      const recoveredAt = await allReady()
      record({ kind: 'rolling', at, instance: instance.index, exitCode, drainMs, ...phases && { phases }, ...report && { report }, recoveredAt })
    }
  }
}

export default rolling
