import { OutboxRelay } from '../../orders/relay.ts'
import { connectStore } from '../store.ts'

// Publishes an event, says so, and never marks it: the test kills this process first.
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
