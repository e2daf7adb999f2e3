import { median } from './figures.ts'
import type { PageTimes } from './pages.ts'
import type { Sized } from './sized.ts'
import type { Soak } from './soak.ts'
import { clientsIn, times, whole } from './table.ts'

// The bounds, in multiples of the smallest table, of the first page, and of the memory after a minute.
const storedLeast = 0.7
const storedAim = 0.9
const pageMost = 1.2
const memoryMost = 1.1

const barWidth = 24

export function storedTable (rows: readonly Sized[], clients: number): string {
  const [least, most] = [rows.at(0), rows.at(-1)]
  const lines = sizedLines(`Orders stored before, ${clientsIn(clients)}`, rows, whole)
  if (least === undefined || most === undefined || least === most) return `${lines.join('\n')}\n`
  const ratio = most.rate / least.rate
  return [...lines, verdict(ratio >= storedLeast, `with ${whole(most.size)} stored: orders/s ≥ ${times(storedLeast)} those with ${whole(least.size)}`, `${times(ratio)}   (aim ${times(storedAim)})`)].join('\n')
}

export function instancesTable (rows: readonly Sized[], clients: number): string {
  const [one, two] = rows
  const lines = sizedLines(`Instances on one database, ${clientsIn(clients)} shared among them`, rows, instancesIn)
  return [...lines, one === undefined || two === undefined ? '' : `Two do ${times(two.rate / one.rate)} what one does.\n`].join('\n')
}

export function pagesTable (pages: readonly PageTimes[]): string {
  const ratios = pages.map(page => {
    const first = pages.find(({ reader, depthPercent }) => reader === page.reader && depthPercent === 0)
    return page.p50Ms / (first?.p50Ms ?? NaN)
  })
  return [
    'GET /orders, pages of 20, one request at a time, all pages in turns',
    '',
    '  the orders of          many     depth    p50 ms    p99 ms    p50 of the first page',
    ...pages.map(({ reader, orders, depthPercent, p50Ms, p99Ms }, index) => [
      `  ${(reader === 'staff' ? 'all, for staff' : 'one customer').padEnd(15)}`,
      whole(orders).padStart(10),
      `${depthPercent} %`.padStart(8),
      p50Ms.toFixed(2).padStart(8),
      p99Ms.toFixed(2).padStart(8),
      times(ratios[index] ?? NaN).padStart(23)
    ].join('  ')),
    '',
    verdict(Math.max(...ratios) <= pageMost, `a page at any depth: p50 ≤ ${times(pageMost)} the first`, times(Math.max(...ratios)))
  ].join('\n')
}

export function soakTable ({ rate, acknowledged, samples, earlyBytes, lateBytes }: Soak, clients: number): string {
  const most = Math.max(...samples.map(({ rssBytes }) => rssBytes))
  const minutes = Map.groupBy(samples, ({ atMs }) => Math.floor(atMs / 60_000))
  const ratio = lateBytes / earlyBytes
  return [
    `The service's memory (RSS) under ${clientsIn(clients)}: ${whole(acknowledged)} orders, ${whole(rate)} a second`,
    '',
    ...minutes.entries().map(([minute, within]) => {
      const rss = median(within.map(({ rssBytes }) => rssBytes))
      return `  minute ${String(minute + 1).padStart(3)}  ${mebibytes(rss).padStart(8)}  ${'█'.repeat(Math.round(rss / most * barWidth))}`
    }),
    '',
    verdict(ratio <= memoryMost, `${mebibytes(lateBytes)} at the end ≤ ${times(memoryMost)} the ${mebibytes(earlyBytes)} after one minute`, times(ratio))
  ].join('\n')
}

export function instancesIn (count: number): string {
  return count === 1 ? 'one' : 'two'
}

export function mebibytes (bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`
}

function sizedLines (title: string, rows: readonly Sized[], nameOf: (size: number) => string): string[] {
  const most = Math.max(...rows.map(({ rate }) => rate))
  return [
    title,
    '',
    `              orders/s  ${''.padEnd(barWidth)}    p50 ms   p99 ms    µs of CPU an order: service  Postgres  load`,
    ...rows.map(({ size, rate, p50Ms, p99Ms, cpuUs }) => [
      `  ${nameOf(size).padStart(10)}`,
      whole(rate).padStart(8),
      '█'.repeat(Math.max(1, Math.round(rate / most * barWidth))).padEnd(barWidth),
      p50Ms.toFixed(1).padStart(8),
      p99Ms.toFixed(1).padStart(7),
      whole(cpuUs.service ?? NaN).padStart(28),
      whole(cpuUs.postgres).padStart(8),
      whole(cpuUs.load).padStart(4)
    ].join('  ')),
    ''
  ]
}

function verdict (held: boolean, asked: string, found: string): string {
  return `${held ? '✓' : '✗'} ${asked.padEnd(72)} ${found}\n`
}
