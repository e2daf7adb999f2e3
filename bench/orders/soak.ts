import type { Conditions, Contest } from './contest.ts'
import { orderService } from './contestants.ts'
import { rssBytesOf } from './cpu.ts'
import { median } from './figures.ts'

export interface Soak {
  readonly acknowledged: number
  readonly rate: number
  /** The service's memory in bytes, with the ms since the load began. */
  readonly samples: ReadonlyArray<{ readonly atMs: number, readonly rssBytes: number }>
  /** In bytes, one minute after the beginning and at the end: each is the median of half a minute of samples. */
  readonly earlyBytes: number
  readonly lateBytes: number
}

const sampleEveryMs = 5_000
const minuteMs = 60_000
const windowMs = 30_000

/** The service's memory under a steady load, from the start of its process. */
export async function soak (contest: Contest, conditions: Conditions, onSample: (atMs: number, rssBytes: number) => void): Promise<Soak> {
  const database = await contest.createDatabase(conditions.products)
  const samples: Array<{ atMs: number, rssBytes: number }> = []
  let timer: NodeJS.Timeout | undefined
  try {
    const { acknowledged, rate } = await contest.measure(orderService, database, conditions, ([pid = 0]) => {
      const beganAt = performance.now()
      timer = setInterval(() => {
        const sample = { atMs: performance.now() - beganAt, rssBytes: rssBytesOf(pid) }
        // NaN: the service has ended, as it should.
        if (!(sample.rssBytes > 0)) return
        samples.push(sample)
        onSample(sample.atMs, sample.rssBytes)
      }, sampleEveryMs)
    })
    const around = (atMs: number): number => median(samples.filter(sample => Math.abs(sample.atMs - atMs) <= windowMs / 2).map(({ rssBytes }) => rssBytes))
    return { acknowledged, rate, samples, earlyBytes: around(minuteMs), lateBytes: around((samples.at(-1)?.atMs ?? NaN) - windowMs / 2) }
  } finally {
    clearInterval(timer)
    await contest.dropDatabase(database)
  }
}
