/** How often, and for how long it still counts, in ms. */
export interface Count { current: number, ttl: number }

export interface SharedCounts {
  /** @throws where the store does not answer in time */
  add (key: string): Promise<Count>
  close (): void
}

/** How long a request waits for the store, in ms. */
const timeoutMs = 100

/** How long a connection may take to close before it is cut, in ms. ioredis keeps a timer of this length, also where it had none. */
const closingMs = 50

/** The window begins with the first request. One script is one step in Redis, so no key is left without an end. */
const script = `
  local current = redis.call('INCR', KEYS[1])
  if current == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
  return { current, redis.call('PTTL', KEYS[1]) }`

/** Counts in Redis, or in what speaks its protocol. While there is no connection, `add` rejects, and one is tried again and again. */
export async function openSharedCounts (url: string, windowMs: number): Promise<SharedCounts> {
  // Imported here, so that nothing of it is loaded where no store is set.
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
  // Whoever counts is told; without a listener the process would end.
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
