import { OutboxRelay } from '../../orders/relay.ts'
import { connectStore } from '../store.ts'

// Publishes, says so, and never comes to mark it: its parent kills it there.
const { store } = connectStore({ teardown () {} }, process.env.DATABASE_URL ?? '')
const relay = new OutboxRelay({
  store,
  log: { warn () {}, error () {} },
  leaseMs: 500,
  publisher: {
    async publish ([message]) {
      process.send?.(String(message?.version))
      await new Promise(() => {})
    }
  }
})
await relay.run()
