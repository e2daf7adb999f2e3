// As transports for log services do, it sends lines in batches. The service is some way off, and takes its time.
import build from 'pino-abstract-transport'

const BATCH = 50

export default function transport ({ url }) {
  let batch = []
  let sent = Promise.resolve()

  return build(async (source) => {
    for await (const entry of source) {
      batch.push(entry)
      if (batch.length === BATCH) send()
    }
  }, {
    // pino waits for it when the process exits, for up to ten seconds; for what the loop above awaits it would not.
    close () {
      if (batch.length > 0) send()
      return sent
    }
  })

  function send () {
    const body = batch.map((entry) => JSON.stringify(entry)).join('\n')
    batch = []
    sent = sent.then(() => fetch(url, { method: 'POST', body })).then(() => {}, console.error)
  }
}
