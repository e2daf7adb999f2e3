import { styleText } from 'node:util'
import type { WriteStream } from 'node:tty'
import { Progress } from '../../verify/progress.ts'
import { count } from '../../verify/report/words.ts'
import type { Lane, State, Tally } from './lane.ts'
import type { LeftBehind } from './left-behind.ts'

const width = 80
const drawEveryMs = 200
const blocks = '▁▂▃▄▅▆▇█'
const colours = { starting: 'yellow', serving: 'green', draining: 'yellow', gone: 'red' } as const satisfies Record<State, string>

type Paint = (format: Parameters<typeof styleText>[0], text: string) => string

interface Shown {
  readonly lanes: readonly Lane[]
  /** Requests in a slice, on average. */
  readonly usual: number
  /** The slices in which SIGTERM was sent. */
  readonly stops: readonly number[]
}

/** Redraws the lanes in place on a terminal. Elsewhere it writes a line now and then, and the lanes at the end. */
export class Screen {
  readonly #out: WriteStream
  readonly #shown: Shown
  readonly #progress: Progress
  readonly #isLive: boolean
  #drawn = 0
  #timer: NodeJS.Timeout | undefined

  constructor (out: WriteStream, shown: Shown) {
    this.#out = out
    this.#shown = shown
    this.#progress = new Progress(out)
    // Lines that wrap or scroll away could not be drawn over.
    this.#isLive = out.isTTY && out.columns >= width && out.rows > 4 + 4 * shown.lanes.length
  }

  begin (): void {
    this.#timer = setInterval(() => this.#draw(), drawEveryMs)
  }

  line (text: string): void {
    if (!this.#isLive) this.#progress.line(text)
  }

  end (): void {
    clearInterval(this.#timer)
    this.#drawLanes()
  }

  /** The current drawing, without colours. */
  text (): string {
    return picture(this.#shown, plain).join('\n')
  }

  #draw (): void {
    if (this.#isLive) this.#drawLanes()
    else this.#progress.state(this.#shown.lanes.map(({ name, state, total }) => `${name} ${state}, ${count(total.acknowledged)} acknowledged`).join('; '))
  }

  #drawLanes (): void {
    const lines = picture(this.#shown, painter(this.#out))
    const up = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : ''
    this.#out.write(up + lines.map(line => `${line}${this.#isLive ? '\x1b[K' : ''}\n`).join(''))
    this.#drawn = lines.length
  }
}

export const plain: Paint = (_format, text) => text

/** Colours the text only for a terminal. */
export function painter (stream: NodeJS.WritableStream): Paint {
  return (format, text) => styleText(format, text, { stream })
}

function picture ({ lanes, usual, stops }: Shown, paint: Paint): string[] {
  const slices = lanes[0]?.slices.length ?? 0
  const marks = Array.from({ length: slices }, (_, slice) => stops.includes(slice) ? '▼' : ' ').join('')
  return [
    '',
    `  ${paint('bold', marks)}  ${paint('dim', '▼ kill -TERM')}`,
    ...lanes.flatMap(({ name, manner, state, slices, total, lastExit }) => [
      `  ${paint('bold', name.padEnd(14))}${paint('dim', manner.padEnd(slices.length - 14))}  ${paint(colours[state], state)}`,
      `  ${slices.map(slice => mark(slice, usual, paint)).join('')}`,
      `  ${counters(total, paint)}${paint('dim', lastExit === '' ? '' : `   ${lastExit}`)}`,
      ''
    ]),
    `  ${paint('dim', `${blocks.at(3)}${blocks.at(5)}${blocks.at(7)} all answered   · some refused, nothing stored   x some cut without an answer`)}`
  ]
}

function mark ({ acknowledged, refused, cut, failed }: Tally, usual: number, paint: Paint): string {
  if (cut + failed > 0) return paint('red', 'x')
  if (refused > 0) return paint('yellow', '·')
  if (acknowledged === 0) return ' '
  // The bar of an average slice leaves room above it.
  const height = Math.round(acknowledged / usual * 0.6 * blocks.length)
  return paint('green', blocks.at(Math.min(blocks.length - 1, height)) ?? ' ')
}

function counters ({ acknowledged, refused, cut }: Tally, paint: Paint): string {
  const shownCut = `${count(cut)} cut`
  return `${count(acknowledged).padStart(5)} acknowledged   ${cut > 0 ? paint('red', shownCut) : shownCut}   ${count(refused)} refused`
}

/** What each service left behind, side by side. */
export function table (left: readonly LeftBehind[], paint: Paint): string {
  const row = (says: string, of: (one: LeftBehind) => number, isBad = false): string => {
    const cells = left.map(one => paint(isBad ? of(one) > 0 ? 'red' : 'green' : 'reset', count(of(one)).padStart(14)))
    return `  ${says.padEnd(34)}${cells.join('')}`
  }
  return [
    paint('bold', `  ${'What each left behind'.padEnd(34)}${left.map(({ name }) => name.padStart(14)).join('')}`),
    row('orders acknowledged', one => one.acknowledged),
    row('refused, nothing stored', one => one.refused),
    row('cut without an answer', one => one.cut, true),
    ...left.some(({ failed }) => failed > 0) ? [row('answered with an error', one => one.failed, true)] : [],
    row('  stored, and its client not told', one => one.storedUnknown, true),
    row('transactions begun and abandoned', one => one.rolledBack, true),
    row('acknowledged orders missing', one => one.missing, true),
    '',
    paint('dim', '  One instance each: between its exit and its next start nobody answers, and a connection'),
    paint('dim', '  that comes in the moment in which a listener closes is reset before any service sees it.')
  ].join('\n')
}
