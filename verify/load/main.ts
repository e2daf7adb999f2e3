import { HistoryFile, historyOf } from '../history-file.ts'
import { loadTarget } from '../load-target.ts'
import { Clients } from './clients.ts'
import { Load } from './load.ts'
import { lastOpOf, ordersToSettle, settle } from './settle.ts'
import type { Counts, LoadSettings, Settings, SettleSettings, Tell, Told } from './settings.ts'

// The load, as a process of its own: what happens to the harness or the service affects neither its clock nor its record.

const progressEvery = 500

/** Its counts, a way to end it early, and its end. */
interface Work {
  counts: () => Counts
  stop: () => void
  finish?: (rest: number) => void
  burst?: Load['burst']
  ended: Promise<void>
}

const settings: Settings = JSON.parse(process.argv[2] ?? '')
const target = await loadTarget(settings.targetFile)
const work = settings.what === 'load' ? startLoad(settings) : startSettling(settings)

process.on('message', (message: Tell) => {
  if (message === 'stop') {
    work.stop()
  } else if ('finish' in message) {
    work.finish?.(message.finish)
  } else {
    work.burst?.(message.burst, message.ms)
    tell('burst')
  }
})
// Without its parent, nothing would end it.
process.once('disconnect', () => process.exit(1))
const progress = setInterval(tellProgress, progressEvery)

await work.ended
clearInterval(progress)
tellProgress()
tell('done')
process.removeAllListeners('disconnect')
process.disconnect?.()

function startLoad ({ historyFile, run, ...options }: LoadSettings): Work {
  const history = new HistoryFile(historyFile)
  const load = new Load({ timeoutMs: target.limits?.answer, ...options, target, products: run.products, history })
  return {
    counts: () => load.counts,
    stop: () => load.stop(),
    finish: rest => load.finish(rest),
    burst: (count, ms) => load.burst(count, ms),
    ended: load.ended.then(() => history.close())
  }
}

function startSettling ({ historyFile, settleFile, urls, clients: count, timeoutMs = target.limits?.answer }: SettleSettings): Work {
  const history = new HistoryFile(settleFile)
  // Operation numbers continue those of the load, so that the two files can be read as one.
  const clients = new Clients({ target, urls, clients: count, timeoutMs, history, lastOp: lastOpOf(historyOf(historyFile)) })
  const stopped = new AbortController()
  return {
    counts: () => ({ ...clients.counts, acknowledged: 0 }),
    stop: () => stopped.abort(),
    ended: settle({ clients, orders: ordersToSettle(historyOf(historyFile)), signal: stopped.signal }).then(async () => {
      await clients.close()
      history.close()
    })
  }
}

function tellProgress (): void {
  tell({ progress: work.counts() })
}

function tell (told: Told): void {
  process.send?.(told)
}
