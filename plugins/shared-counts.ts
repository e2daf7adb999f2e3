/** The requests in the window, and the ms until it ends. */
export interface Count { current: number, ttl: number }

export interface SharedCounts {
  /** @throws if the store does not answer in time */
  add (key: string): Promise<Count>
  close (): void
}

/** How long a request waits for the store, in ms. */
const timeoutMs = 100

/** How long a connection may take to close before it is cut, in ms. ioredis sets this timer even without a connection. */
const closingMs = 50

/** The window begins with the first request. Redis runs the script as one step, so every key expires. */
const script = `
  local current = redis.call('INCR', KEYS[1])
  if current == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
  return { current, redis.call('PTTL', KEYS[1]) }`

/** Counts in Redis, or in a store with its protocol. Without a connection `add` rejects; ioredis reconnects in the background. */
export async function openSharedCounts (url: string, windowMs: number): Promise<SharedCounts> {
  // Imported here, so that only services with a store load it.
  const { Redis } = await import('ioredis')
  const redis = new Redis(url, {
    connectionName: 'last-orders',
    connectTimeout: 2_000,
    lazyConnect: true,
    commandTimeout: timeoutMs,
    disconnectTimeout: closingMs,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: times => Math.min(times * 100, 2_000)
  })
  // `add` reports failures. Without this listener an error would end the process.
  redis.on('error', () => {})
  await redis.connect().catch(() => {})
  return {
    async add (key) {
      const answer = await redis.eval(script, 1, `last-orders:rate-limit:${key}`, windowMs)
      const [current, ttl] = Array.isArray(answer) ? answer.map(Number) : []
      if (current === undefined || ttl === undefined) throw new Error('The store of the rate limit gave no count.')
      return { current, ttl }
    },
    close: () => redis.disconnect()
  }
}
