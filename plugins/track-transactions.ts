import { Prisma } from '#prisma'

/** What `app.drain.track` is. */
export type Track = <T>(label: string, work: Promise<T>) => Promise<T>

/**
 * A Prisma client extension that has a stop wait for every `$transaction`, interactive or an array, whether or not a request
 * still waits for it: a client that hangs up must not take its transaction with it.
 *
 *     const prisma = new PrismaClient({ adapter }).$extends(trackTransactions((label, work) => app.drain.track(label, work)))
 *
 * Nothing here is special to this service; copy it into yours.
 */
export function trackTransactions (track: Track) {
  return Prisma.defineExtension(client => client.$extends({
    name: 'track-transactions',
    client: {
      $transaction: ((...args: Parameters<typeof client.$transaction>) =>
        track('transaction', client.$transaction(...args) as Promise<unknown>)) as typeof client.$transaction
    }
  }))
}
