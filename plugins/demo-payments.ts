import type { Charge, Payments, Refund } from '../orders/ports.ts'
import type { DemoLedger, PrismaClient } from '#prisma'

/** The demo gateway declines customers whose names begin so. */
const declined = 'declined'

/**
 * A gateway to try the service with. It moves no money. It runs in this process and keeps its ledger in the same database (the
 * table demo_ledger, which the ops port shows at /demo-ledger). Like a real one, it charges an id once and finds it again.
 */
export function demoPayments (prisma: Pick<PrismaClient, '$queryRaw' | '$transaction' | 'demoLedger'>): Payments {
  return {
    async charge ({ id, order, customer, amount, currency, captures }) {
      const isDeclined = customer.startsWith(declined)
      const state = isDeclined ? 'declined' : captures ? 'charged' : 'authorised'
      const reason = isDeclined ? 'insufficient-funds' : null
      const [entry] = await prisma.$queryRaw<Entry[]>`
        INSERT INTO demo_ledger (id, kind, order_id, customer, amount, currency, state, reason)
        VALUES (${id}::uuid, 'charge', ${order}::uuid, ${customer}, ${amount}, ${currency}, ${state}, ${reason})
        ON CONFLICT (id) DO UPDATE SET calls = demo_ledger.calls + 1
        RETURNING id, state, amount, currency, reason`
      return chargeOf(entry)
    },
    async capture (id) {
      return chargeOf((await moved(id, 'authorised', 'charged'))[0] ?? await prisma.demoLedger.findUniqueOrThrow({ where: { id } }))
    },
    async void (id) {
      return chargeOf((await moved(id, 'authorised', 'voided'))[0] ?? await prisma.demoLedger.findUniqueOrThrow({ where: { id } }))
    },
    async find (id) {
      const entry = await prisma.demoLedger.findUnique({ where: { id } })
      return entry === null ? undefined : chargeOf(entry)
    },
    async refund ({ id, charge, amount, currency }) {
      // A statement of its own locks the charge's row, so that the second of two refunds sees the first.
      const [, [entry]] = await prisma.$transaction([
        prisma.$queryRaw`SELECT FROM demo_ledger WHERE id = ${charge}::uuid FOR UPDATE`,
        prisma.$queryRaw<Entry[]>`
          WITH left_over AS (
            SELECT coalesce((SELECT amount FROM demo_ledger WHERE id = ${charge}::uuid AND state = 'charged'), 0)
                 - coalesce((SELECT sum(amount) FROM demo_ledger WHERE charge_id = ${charge}::uuid AND state = 'refunded' AND id <> ${id}::uuid), 0) AS amount)
          INSERT INTO demo_ledger (id, kind, charge_id, amount, currency, state, reason)
          SELECT ${id}::uuid, 'refund', ${charge}::uuid, ${amount}, ${currency},
                 CASE WHEN ${amount}::bigint <= left_over.amount THEN 'refunded' ELSE 'failed' END, CASE WHEN ${amount}::bigint <= left_over.amount THEN NULL ELSE 'more-than-charged' END
            FROM left_over
          ON CONFLICT (id) DO UPDATE SET calls = demo_ledger.calls + 1
          RETURNING id, state, amount, currency, reason`
      ])
      return refundOf(entry)
    },
    async findRefund (id) {
      const entry = await prisma.demoLedger.findUnique({ where: { id } })
      return entry === null ? undefined : refundOf(entry)
    }
  }

  async function moved (id: string, from: string, to: string): Promise<Entry[]> {
    return await prisma.$queryRaw<Entry[]>`UPDATE demo_ledger SET state = ${to} WHERE id = ${id}::uuid AND state = ${from} RETURNING id, state, amount, currency, reason`
  }
}

type Entry = Pick<DemoLedger, 'id' | 'state' | 'amount' | 'currency' | 'reason'>

function chargeOf (entry: Entry | undefined): Charge {
  if (entry === undefined) throw new Error('The demo gateway did not answer')
  const { id, state, amount, currency, reason } = entry
  if (state !== 'charged' && state !== 'authorised' && state !== 'declined' && state !== 'voided') throw new Error(`The demo gateway has no charge ${id}`)
  return { state, reference: `demo-${id}`, amount, currency, ...reason !== null && { reason } }
}

function refundOf (entry: Entry | undefined): Refund {
  if (entry === undefined) throw new Error('The demo gateway did not answer')
  const { id, state, amount, reason } = entry
  if (state !== 'refunded' && state !== 'failed') throw new Error(`The demo gateway has no refund ${id}`)
  return { state, reference: `demo-${id}`, amount, ...reason !== null && { reason } }
}
