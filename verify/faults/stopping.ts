import { oneOf, type Scenario } from './fault.ts'

/** An instance gets the signal under load, and is restarted when it has exited. */
export function stopping (name: string, signal: 'SIGTERM' | 'SIGKILL'): Scenario {
  return {
    name,
    needs: {},
    strikes: 'service',
    rest: [500, 2_500],
    async strike ({ instances, start, allReady, burst, random, record }) {
      const instance = oneOf(instances, random)
      await burst()
      const { at, exitCode, drainMs, phases, report, probes } = await instance.stop(signal)
      await start(instance)
      record({
        kind: name,
        at,
        instance: instance.index,
        exitCode,
        drainMs: signal === 'SIGTERM' ? drainMs : null,
        ...phases && { phases },
        ...report && { report },
        ...probes > 0 && { probes },
        recoveredAt: await allReady()
      })
    }
  }
}
