import { HistoryFile } from '../history-file.ts'
import type { Line } from '../history.ts'
import { Load } from '../load/load.ts'
import { usualMix, type Mix } from '../load/mix.ts'
import { products } from '../products.ts'
import { contestants } from './contestants.ts'

// All the clients, as a process of their own, which neither starts anything nor draws: what kept its loop busy would look
// as if the services were slow.

/** What it is started with: its one argument, as JSON. */
export interface Settings {
  /** Of each contestant, in their order. */
  readonly lanes: ReadonlyArray<{ readonly url: string, readonly historyFile: string }>
  /** Arrivals per second, at each. */
  readonly rate: number
  /** ms. */
  readonly duration: number
  readonly seed: number
}

/** What it tells its parent: each line of a lane's history, when it has been written. */
export interface Told {
  readonly lane: number
  readonly line: Line
}

/** New orders only, so that a request is an order; three in ten of the product that many want. */
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

// Nobody would end it.
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
