import * as Plot from '@observablehq/plot'
import { JSDOM } from 'jsdom'
import type { Exchange } from '../judge/told.ts'
import type { Fault } from '../verdict.ts'
import { Markup } from './markup.ts'
import type { Met } from './met.ts'
import { fates, percentile, type Slice } from './slices.ts'
import { phasesOf, type Band, type Mark } from './stops.ts'
import { asked, time, told } from './words.ts'

/** ms drawn before a signal and after an exit. */
const beforeMost = 1_000

/** Charts as SVG. Their colours are the variables of page.css, so that one drawing serves light, dark and paper. */
export class Charts {
  readonly #document = new JSDOM('').window.document
  /** Length of the time axis, in s. */
  readonly #span: number

  constructor (span: number) {
    this.#span = span
  }

  /** Requests per second, by outcome. */
  requests (slices: readonly Slice[], marks: readonly Mark[]): Markup {
    const bars = slices.flatMap(({ from, to, fates: counts }) => fates.filter(fate => counts[fate] > 0).map(fate => ({
      from,
      to,
      fate,
      rate: counts[fate] / (to - from),
      title: `${seconds(from)} to ${seconds(to)}: ${counts[fate]} ${fate}`
    })))
    return this.#draw('requests', 'Requests a second over the time of the run, by what came of them', {
      height: 230,
      marginTop: 30,
      marginBottom: 6,
      x: { ...this.#overTime(), axis: null },
      y: { label: 'requests/s', grid: true, ticks: 4 },
      marks: [
        Plot.rectY(bars, Plot.stackY({ order: [...fates] }, { x1: 'from', x2: 'to', y: 'rate', fill: ({ fate }: { fate: string }) => `var(--${fate})`, title: 'title', inset: 0.25 })),
        Plot.ruleX(marks, { x: 'at', stroke: 'currentColor', strokeOpacity: 0.22 }),
        Plot.ruleY([0], { stroke: 'currentColor' })
      ]
    })
  }

  /** A lane for each instance and for everything else that was struck. */
  lanes (bands: readonly Band[], marks: readonly Mark[]): Markup {
    const lanes = [...new Set(marks.map(({ lane }) => lane))].sort()
    return this.#draw('lanes', 'Faults and the phases of the stops, in a lane for each instance', {
      height: 36 * lanes.length + 12,
      marginTop: 6,
      marginBottom: 6,
      x: { ...this.#overTime(), axis: null },
      y: { domain: lanes, label: null, tickSize: 0, paddingInner: 0.65, paddingOuter: 0.5 },
      marks: [
        Plot.ruleY(lanes, { y: lane => lane, stroke: 'var(--line)' }),
        Plot.barX(bands, { x1: 'from', x2: 'to', y: 'lane', fill: ({ phase }) => `var(--${phase})`, title: 'title' }),
        Plot.text(marks, { x: 'at', y: 'lane', text: 'glyph', title: 'title', fill: 'currentColor', dy: -13, fontSize: 12 })
      ]
    })
  }

  /** Latency over time, of requests with a whole answer. */
  latency (slices: readonly Slice[], marks: readonly Mark[]): Markup {
    const times = slices.flatMap(({ from, to, latency }) => latency === undefined ? [] : [{ from, to, ...latency, title: `${seconds(from)} to ${seconds(to)}: p50 ${time(latency.p50)}, p99 ${time(latency.p99)}, max ${time(latency.max)}` }])
    return this.#draw('latency', 'Latency over the time of the run: median, 99th percentile and maximum', {
      height: 240,
      marginTop: 30,
      marginBottom: 44,
      x: this.#overTime(),
      y: { ...logarithmic(times.flatMap(({ p50, max }) => [p50, max])), label: 'latency' },
      marks: [
        Plot.ruleX(marks, { x: 'at', stroke: 'currentColor', strokeOpacity: 0.22 }),
        Plot.rect(times, { x1: 'from', x2: 'to', y1: 'p50', y2: 'p99', fill: 'var(--latency)', fillOpacity: 0.35, inset: 0.25, title: 'title' }),
        Plot.ruleY(times, { x1: 'from', x2: 'to', y: 'p50', stroke: 'var(--latency)', strokeWidth: 2 }),
        Plot.ruleY(times, { x1: 'from', x2: 'to', y: 'p99', stroke: 'var(--latency)', strokeWidth: 1 }),
        Plot.dot(times, { x: ({ from, to }) => (from + to) / 2, y: 'max', r: 1.6, fill: 'currentColor', title: 'title' })
      ]
    })
  }

  /** The distribution of latency with a stretched tail: each nine takes as much room as the previous one. */
  percentiles (sorted: Float64Array): Markup {
    const nines = Math.log10(Math.max(10, sorted.length))
    const points = Array.from({ length: 121 }, (_, i) => 10 ** (i / 120 * nines)).map(oneIn => ({ oneIn, ms: percentile(sorted, 1 - 1 / oneIn) }))
    const named = [[1, 'all'], [2, '50 %'], [10, '90 %'], [100, '99 %'], [1_000, '99.9 %'], [10_000, '99.99 %'], [100_000, '99.999 %']] as const
    const ticks = named.filter(([oneIn]) => oneIn > 1 && oneIn <= 10 ** nines)
    return this.#draw('percentiles', 'Latency by percentile', {
      height: 250,
      marginTop: 30,
      marginBottom: 44,
      x: { type: 'log', labelOffset: 40, domain: [1, 10 ** nines], ticks: ticks.map(([oneIn]) => oneIn), tickFormat: (oneIn: number) => named.find(([value]) => value === oneIn)?.[1] ?? '', label: 'share of the answers that took no longer' },
      y: { ...logarithmic(points.map(({ ms }) => ms)), label: 'latency' },
      marks: [
        Plot.ruleX(ticks, { x: ([oneIn]) => oneIn, stroke: 'var(--line)' }),
        Plot.line(points, { x: 'oneIn', y: 'ms', stroke: 'var(--latency)', strokeWidth: 2, curve: 'step-after' }),
        Plot.dot(ticks, { x: ([oneIn]) => oneIn, y: ([oneIn]) => percentile(sorted, 1 - 1 / oneIn), r: 3, fill: 'var(--latency)' }),
        Plot.text(ticks, { x: ([oneIn]) => oneIn, y: ([oneIn]) => percentile(sorted, 1 - 1 / oneIn), text: ([oneIn]) => time(percentile(sorted, 1 - 1 / oneIn)), dy: -10, textAnchor: 'end', fill: 'currentColor', stroke: 'var(--paper)', strokeWidth: 4 })
      ]
    })
  }

  /** One bar for each stop, in sequence. */
  stops (faults: readonly Fault[]): Markup {
    const bars = faults.flatMap((fault, i) => phasesOf(fault).map(({ phase, from, to }) => ({
      number: i + 1,
      phase,
      from,
      to,
      title: `stop ${i + 1}, ${fault.kind}: ${phase} from ${time(from)} to ${time(to)}`
    })))
    return this.#draw('stops', 'How long each stop took, by its phases', {
      height: 240,
      marginTop: 30,
      marginBottom: 40,
      x: { type: 'band', label: 'stop', domain: faults.map((_, i) => i + 1), ticks: faults.map((_, i) => i + 1).filter(number => number === 1 || number % Math.ceil(faults.length / 20) === 0), padding: 0.25, tickSize: 0 },
      y: { label: 'ms from the signal', grid: true, ticks: 5 },
      marks: [
        Plot.rectY(bars, { x: 'number', y1: 'from', y2: 'to', fill: ({ phase }) => `var(--${phase})`, title: 'title' }),
        Plot.ruleY([0], { stroke: 'currentColor' })
      ]
    })
  }

  /** Each request that met one stop, from the sending of its bytes. The lines are the signal, the phases of the stop, and the exit. */
  meeting (met: readonly Met[], fault: Fault): Markup {
    const { drainMs } = fault
    const from = Math.max(Math.min(...met.map(({ from }) => from), 0), -beforeMost)
    const to = Math.max(drainMs ?? 0, ...met.flatMap(({ to }) => to === undefined ? [] : Math.min(to, (drainMs ?? 0) + beforeMost)))
    const rows = met.map((each, row) => ({ ...each, row, from: Math.max(each.from, from), to: Math.min(each.to ?? to, to) }))
    const lines = [{ at: 0, says: 'signal' }, ...phasesOf(fault).flatMap(({ phase, from }) => from > 0 ? { at: from, says: phase } : []), { at: drainMs ?? 0, says: 'exit' }]
    return this.#draw('meeting', 'The requests that met one stop, each from when its bytes left to its end', {
      height: Math.max(110, 4 * rows.length + 70),
      marginTop: 26,
      marginBottom: 40,
      x: { domain: [from, to], label: 'ms from the signal', labelAnchor: 'right', labelOffset: 36, ticks: 8 },
      y: { axis: null, domain: [rows.length, -1] },
      marks: [
        Plot.ruleX(lines, { x: 'at', stroke: 'currentColor', strokeOpacity: 0.5, strokeDasharray: '2 3' }),
        Plot.text(lines, { x: 'at', frameAnchor: 'top', dy: -14, text: 'says', fill: 'currentColor' }),
        Plot.link(rows, { x1: 'from', x2: 'to', y1: 'row', y2: 'row', stroke: ({ ending }) => `var(--met-${ending})`, strokeWidth: 2.5, title: 'says' }),
        Plot.dot(rows, { x: 'to', y: 'row', r: 2, fill: ({ ending }) => `var(--met-${ending})`, title: 'says' })
      ]
    })
  }

  /** The requests about one order, and the faults of that time. */
  counterexample (exchanges: readonly Exchange[], marks: readonly Mark[], beginning: number): Markup {
    const rows = exchanges.map(({ invocation, completion }, i) => ({
      row: i,
      what: asked(invocation),
      from: (invocation.at - beginning) / 1_000,
      to: completion === undefined ? undefined : (completion.at - beginning) / 1_000,
      outcome: completion?.type ?? 'info',
      told: beginningOf(told(completion))
    }))
    const from = Math.min(...rows.map(row => row.from))
    const to = Math.max(...rows.map(row => row.to ?? row.from))
    const room = Math.max(0.01, (to - from) * 0.03)
    return this.#draw('order', 'What was asked and answered, in time', {
      height: 22 * rows.length + 46,
      marginLeft: 130,
      marginRight: 190,
      x: { domain: [from - room, to + room], label: 's from the beginning', ticks: 6 },
      y: { type: 'band', domain: rows.map(({ row }) => row), label: null, tickSize: 0, tickFormat: (row: number) => rows[row]?.what ?? '' },
      marks: [
        Plot.ruleX(marks.filter(({ at }) => at >= from - room && at <= to + room), { x: 'at', stroke: 'currentColor', strokeDasharray: '2 3', title: 'title' }),
        Plot.text(marks.filter(({ at }) => at >= from - room && at <= to + room), { x: 'at', frameAnchor: 'top', dy: -12, text: 'glyph', title: 'title', fill: 'currentColor' }),
        Plot.link(rows, { x1: 'from', x2: ({ to }) => to ?? NaN, y1: 'row', y2: 'row', stroke: ({ outcome }) => `var(--${outcome})`, strokeWidth: 5 }),
        Plot.dot(rows, { x: 'from', y: 'row', r: 4, fill: 'var(--paper)', stroke: ({ outcome }) => `var(--${outcome})`, strokeWidth: 2 }),
        Plot.text(rows, { x: ({ from, to }) => to ?? from, y: 'row', text: 'told', dx: 10, textAnchor: 'start', fill: 'currentColor' })
      ]
    })
  }

  #overTime (): Plot.ScaleOptions {
    return { domain: [0, this.#span], label: 's from the beginning', labelAnchor: 'right', labelOffset: 40 }
  }

  #draw (name: string, says: string, options: Plot.PlotOptions): Markup {
    const drawing = Plot.plot({
      width: 1000,
      marginLeft: 96,
      marginRight: 12,
      className: 'chart',
      ariaLabel: says,
      style: { fontSize: '12px', fontFamily: 'inherit', background: 'none' },
      document: this.#document,
      ...options
    })
    drawing.setAttribute('role', 'img')
    drawing.setAttribute('data-chart', name)
    return new Markup(drawing.outerHTML)
  }
}

/** The text that fits beside a bar. */
function beginningOf (text: string): string {
  return text.length > 28 ? `${text.slice(0, 27)}…` : text
}

/** A scale in ms with a tick at each power of ten. */
function logarithmic (values: readonly number[]): Plot.ScaleOptions {
  const least = Math.max(0.1, values.reduce((a, b) => Math.min(a, b), Infinity))
  const most = values.reduce((a, b) => Math.max(a, b), least)
  const [from, to] = [Math.floor(Math.log10(least)), Math.max(Math.ceil(Math.log10(most)), Math.floor(Math.log10(least)) + 1)]
  return {
    type: 'log',
    domain: [10 ** from, 10 ** to],
    clamp: true,
    grid: true,
    ticks: Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i)),
    tickFormat: (ms: number) => time(ms)
  }
}

function seconds (value: number): string {
  return `${Number(value.toFixed(2))} s`
}
