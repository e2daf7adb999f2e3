import { HistoryFile } from '../../verify/history-file.ts'
import type { Line } from '../../verify/history.ts'
import { Load } from '../../verify/load/load.ts'
import { usualMix, type Mix } from '../../verify/load/mix.ts'
import { products } from '../../verify/products.ts'
import { contestants } from './contestants.ts'

// All clients, in a process of their own that starts nothing and draws nothing: other work in its loop would make the
// services look slow.

/** Its settings: the only argument, as JSON. */
export interface Settings {
  /** For each contestant, in their order. */
  readonly lanes: ReadonlyArray<{ readonly url: string, readonly historyFile: string }>
  /** Arrivals per second, at each. */
  readonly rate: number
  /** ms. */
  readonly duration: number
  readonly seed: number
}

/** What it sends to its parent: each line of a lane's history, after it was written. */
export interface Told {
  readonly lane: number
  readonly line: Line
}

/** Only new orders, so that a request is an order; three in ten are of the hot product. */
const nothing = Object.fromEntries(Object.keys(usualMix).map(kind => [kind, 0]))
const mix: Partial<Mix> = { ...nothing, new: 70, hot: 30 }
const clients = 32

class ToldHistory extends HistoryFile {
  readonly #lane: number

  constructor (path: string, lane: number) {
    super(path)
    this.#lane = lane
  }

  override append (line: Line): void {
    super.append(line)
    const told: Told = { lane: this.#lane, line }
    process.send?.(told)
  }
}

// Without its parent, nothing would end it.
process.once('disconnect', () => process.exit(1))

const { lanes, ...settings }: Settings = JSON.parse(process.argv[2] ?? '')
const loads = contestants.map(({ target: { request, understand } }, i) => {
  const { url = '', historyFile = '' } = lanes[i] ?? {}
  const history = new ToldHistory(historyFile, i)
  return new Load({ ...settings, target: { request, understand }, urls: [url], clients, products, history, mix }).ended
})
await Promise.all(loads)
process.removeAllListeners('disconnect')
process.disconnect?.()
