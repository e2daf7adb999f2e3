import { oneOf, type Scenario } from './fault.ts'

/** An instance is sent the signal in mid-load, and started again when it has exited. */
export function stopping (name: string, signal: 'SIGTERM' | 'SIGKILL'): Scenario {
  return {
    name,
    needs: {},
    rest: [500, 2_500],
    async strike ({ instances, allReady, random, record }) {
      const instance = oneOf(instances, random)
      const { at, exitCode, drainMs, phases } = await instance.stop(signal)
      await instance.start()
      record({
        kind: name,
        at,
        instance: instance.index,
        exitCode,
        drainMs: signal === 'SIGTERM' ? drainMs : null,
        ...phases === undefined ? {} : { phases },
        recoveredAt: await allReady()
      })
    }
  }
}
