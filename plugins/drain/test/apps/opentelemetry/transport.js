// Sends lines in batches, as transports for log services do. The service is some way off, and slow.
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
    // When the process exits, pino waits up to ten seconds for this. It would not wait for the loop above.
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
