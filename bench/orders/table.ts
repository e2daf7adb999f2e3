import type { Verdict } from './bounds.ts'
import type { Products, Standing } from './figures.ts'

const barWidth = 24

/** The table of one number of clients and one kind of products, for people: the fastest first. */
export function standingsTable (clients: number, products: Products, rows: readonly Standing[]): string {
  const most = Math.max(...rows.map(({ rate }) => rate))
  const name = Math.max(...rows.map(({ contestant }) => contestant.length))
  return [
    `${clientsIn(clients)}, ${productsIn(products)}`,
    '',
    `  ${''.padEnd(name)}  orders/s  ${''.padEnd(barWidth)}  last-orders is      p50 ms   p99 ms    µs of CPU an order: service  Postgres  load`,
    ...rows.map(({ contestant, rate, ratio, p50Ms, p99Ms, cpuUs }) => [
      `  ${contestant.padEnd(name)}`,
      whole(rate).padStart(8),
      '█'.repeat(Math.max(1, Math.round(rate / most * barWidth))).padEnd(barWidth),
      (ratio === undefined || contestant === 'last-orders' ? '' : times(ratio)).padStart(14),
      p50Ms.toFixed(1).padStart(10),
      p99Ms.toFixed(1).padStart(7),
      (cpuUs.service === null ? '–' : whole(cpuUs.service)).padStart(28),
      whole(cpuUs.postgres).padStart(8),
      whole(cpuUs.load).padStart(4)
    ].join('  '))
  ].join('\n')
}

export function verdictLines (verdicts: readonly Verdict[]): string[] {
  return verdicts.map(({ clients, products, peer, figure, bound, aim, ratio, held }) => {
    const what = { rate: 'orders/s', p50Ms: 'p50', p99Ms: 'p99' }[figure]
    const asked = `${clientsIn(clients)}, ${productsIn(products)}: ${what} ${figure === 'rate' ? '≥' : '≤'} ${times(bound)} ${peer}`
    return `${held ? '✓' : '✗'} ${asked.padEnd(72)} ${times(ratio).padStart(8)}${aim === undefined ? '' : `   (aim ${times(aim)})`}`
  })
}

/** A text with one line for each fact of the environment. */
export function environmentLines (environment: Readonly<Record<string, string>>): string[] {
  const name = Math.max(...Object.keys(environment).map(({ length }) => length))
  return Object.entries(environment).map(([key, value]) => `  ${key.padEnd(name)}  ${value}`)
}

export function clientsIn (clients: number): string {
  return clients === 1 ? '1 client' : `${whole(clients)} clients`
}

export function productsIn (products: Products): string {
  return { uniform: '1,000 products', hot: 'one hot product' }[products]
}

export function whole (value: number): string {
  return Math.round(value).toLocaleString('en')
}

export function times (ratio: number): string {
  return `${ratio < 10 ? ratio.toFixed(2) : ratio.toFixed(1)} ×`
}
