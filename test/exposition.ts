import type { FastifyInstance } from 'fastify'

/** A sample of Prometheus's text format. */
export interface Sample {
  name: string
  labels: Record<string, string>
  value: number
}

export function samplesOf (exposition: string): Sample[] {
  const samples: Sample[] = []
  for (const line of exposition.split('\n')) {
    const [, name, labels = '', value] = /^(\w+)(?:\{(.*?)\})? ([^ ]+)/.exec(line) ?? []
    if (name === undefined || line.startsWith('#')) continue
    samples.push({ name, labels: Object.fromEntries([...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, text]) => [label, text])), value: Number(value) })
  }
  return samples
}

/** The sum of the samples with these labels; undefined if there are none. */
export function valueOf (exposition: string, name: string, labels: Record<string, string> = {}): number | undefined {
  const found = samplesOf(exposition).filter(sample => sample.name === name && Object.entries(labels).every(([label, text]) => (sample.labels[label] ?? '') === text))
  return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + value, 0)
}

/** The metrics with the figures of the database. It repeats the scrape, because on a busy machine one may not wait long enough for them. */
export async function withFigures (app: FastifyInstance): Promise<string> {
  for (;;) {
    const exposition = await app.metrics.render()
    if (valueOf(exposition, 'database_gauges_up') === 1) return exposition
  }
}
