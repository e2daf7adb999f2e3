import { Prisma } from '#prisma'

/** The type of `app.drain.track`. */
export type Track = <T>(label: string, work: Promise<T>) => Promise<T>

/**
 * A Prisma client extension: a stop waits for every `$transaction`, interactive or an array, even if no request waits for it any
 * more. A client that hangs up must not take its transaction with it.
 *
 *     const prisma = new PrismaClient({ adapter }).$extends(trackTransactions((label, work) => app.drain.track(label, work)))
 *
 * It depends on nothing of this service; copy it into yours.
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
