import * as Plot from '@observablehq/plot'
import { JSDOM } from 'jsdom'
import { contestants } from './contestants.ts'
import { subject, type Products, type Standing } from './figures.ts'
import { clientsIn, productsIn, times, whole } from './table.ts'

/** The contestants at one number of clients and one kind of products. */
export interface Table {
  readonly clients: number
  readonly products: Products
  readonly standings: readonly Standing[]
}

const width = 1_000
const margin = 20
const headHeight = 84
const gap = 58
const rowHeight = 21

// One drawing for light and dark backgrounds.
const style = `
  .picture { --paper: #fcfbf8; --ink: #1d1f22; --muted: #5c5f66; --line: #dedad0; --ours: #17683a; --peer: #9db8d3; --ceiling: #d5cfc0; }
  @media (prefers-color-scheme: dark) {
    .picture { --paper: #16181b; --ink: #e7e5df; --muted: #a3a5aa; --line: #34373c; --ours: #5fc48a; --peer: #4f7ba6; --ceiling: #45474c; }
  }
  .picture { background: var(--paper); color: var(--ink); font: 12px system-ui, sans-serif; }
  .picture .title { font-size: 19px; font-weight: 600; }
  .picture .heading { font-size: 14px; font-weight: 600; }
  .picture .muted { fill: var(--muted); }
  .picture [aria-label="fy-axis tick label"], .picture [aria-label="fx-axis tick label"] { font-weight: 600; }`

/** Draws orders per second and 99th percentiles as one self-contained SVG. */
export function chart (tables: readonly Table[], environment: Readonly<Record<string, string>>): string {
  const { document } = new JSDOM('').window
  const rows = tables.flatMap(({ clients, products, standings }) => standings.map(standing => ({
    ...standing,
    clients: clientsIn(clients),
    products: productsIn(products),
    count: clients,
    fill: `var(--${standing.contestant === subject ? 'ours' : standing.contestant === 'ceiling' ? 'ceiling' : 'peer'})`
  })))
  const present = contestants.map(({ name }) => name).filter(name => rows.some(({ contestant }) => contestant === name))
  const facets = new Set(rows.map(({ clients }) => clients)).size
  const plot = (options: Plot.PlotOptions): string => Plot.plot({
    width: width - 2 * margin,
    marginLeft: 138,
    style: { background: 'none', fontFamily: 'inherit', fontSize: '12px' },
    document,
    ...options,
    y: { domain: present, label: null, tickSize: 0 },
    fx: { domain: [...new Set(rows.map(({ products }) => products))], axis: 'top', label: null, padding: 0.08 }
  }).outerHTML

  const rates = {
    heading: 'Orders acknowledged a second, and the multiple of each that last-orders does',
    height: 46 + facets * (present.length * rowHeight + 14),
    options: {
      marginRight: 98,
      marginTop: 26,
      marginBottom: 20,
      x: { domain: [0, Math.max(...rows.map(({ rate }) => rate)) * 1.32], axis: null },
      fy: { domain: [...new Set(rows.toSorted((a, b) => a.count - b.count).map(({ clients }) => clients))], label: null, padding: 0.06 },
      marks: [
        Plot.barX(rows, { x: 'rate', y: 'contestant', fx: 'products', fy: 'clients', fill: 'fill', insetTop: 1.5, insetBottom: 1.5, rx: 2 }),
        Plot.text(rows, { x: 'rate', y: 'contestant', fx: 'products', fy: 'clients', text: ({ rate }) => whole(rate), dx: 6, textAnchor: 'start', fill: 'var(--ink)' }),
        Plot.text(rows.filter(({ contestant, ratio }) => contestant !== subject && ratio !== undefined), {
          x: 'rate', y: 'contestant', fx: 'products', fy: 'clients', text: ({ ratio }) => times(ratio ?? NaN), dx: 56, textAnchor: 'start', fill: 'var(--muted)'
        })
      ]
    }
  } satisfies Panel

  const latencies = {
    heading: 'p99 of the latency in ms; the number at a dot is that of the clients',
    height: 66 + present.length * 30,
    options: {
      marginRight: 24,
      marginTop: 26,
      marginBottom: 34,
      x: { type: 'log', label: null, grid: true, tickFormat: (ms: number) => Number.isInteger(Math.log10(ms)) ? String(ms) : '' },
      marks: [
        Plot.ruleY(present, { y: name => name, stroke: 'var(--line)' }),
        Plot.line(rows.toSorted((a, b) => a.count - b.count), { x: 'p99Ms', y: 'contestant', z: 'contestant', fx: 'products', stroke: 'fill', strokeWidth: 3 }),
        Plot.dot(rows, { x: 'p99Ms', y: 'contestant', fx: 'products', fill: 'fill', stroke: 'var(--paper)', r: 5 }),
        Plot.text(rows, { x: 'p99Ms', y: 'contestant', fx: 'products', text: ({ count }) => whole(count), dy: -11, fontSize: 10, fill: 'var(--muted)' })
      ]
    }
  } satisfies Panel

  const height = headHeight + rates.height + gap + latencies.height + margin
  const { node = '', 'postgres server_version': postgres = '', processors = '', commit = '' } = environment
  return `<svg xmlns="http://www.w3.org/2000/svg" class="picture" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" fill="currentColor">
<title>Orders a second and the 99th percentile of the latency, of each contestant</title>
<style>${style}</style>
<rect width="100%" height="100%" fill="var(--paper)"/>
<text class="title" x="${margin}" y="34">Durable orders, each answered after its commit</text>
<text class="muted" x="${margin}" y="54">${escaped(`Node ${node}, Postgres ${postgres}, ${processors} for service, database and load together; commit ${commit}`)}</text>
${panel(rates, headHeight)}
${panel(latencies, headHeight + rates.height + gap)}
</svg>
`

  function panel ({ heading, height, options }: Panel, top: number): string {
    return `<text class="heading" x="${margin}" y="${top + 6}">${heading}</text>
<g transform="translate(${margin}, ${top + 14})">${plot({ height, ...options })}</g>`
  }
}

interface Panel {
  readonly heading: string
  readonly height: number
  readonly options: Plot.PlotOptions
}

function escaped (text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
