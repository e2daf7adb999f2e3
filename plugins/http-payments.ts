import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { Currency, Money, storableText } from '../routes/schemas.ts'
import { bearer, Outbound, Unclear, type Answer, type Asked, type OutboundOptions, type Token } from './outbound.ts'
import type { components } from '../contracts/payments.d.ts'
import type { Call, Charge, ChargeRequest, Payments, Refund, RefundRequest } from '../orders/ports.ts'

type Contract = components['schemas']

export interface HttpPaymentsOptions extends Pick<OutboundOptions, 'url' | 'timeoutMs' | 'log' | 'onEnd' | 'breakMs'> {
  /** Sent as Authorization: Bearer. */
  token?: Token
}

const Reference = storableText({ minLength: 1, maxLength: 255 })

// Only what the service uses: a gateway may say more. The types check these schemas against the contract.

type ChargeRead = Pick<Contract['Charge'], 'id' | 'state' | 'reference' | 'amount' | 'currency' | 'reason' | 'actionUrl'>
const chargeAnswer = Compile(Type.Object({
  id: Type.String(),
  state: Type.Enum(['pending', 'authorised', 'charged', 'declined', 'voided']),
  reference: Reference,
  amount: Money,
  currency: Currency,
  reason: Type.Optional(Type.String()),
  // Customers follow this link: it must not be a script.
  actionUrl: Type.Optional(Type.String({ pattern: '^https?://[\\x21-\\x7e]+$', maxLength: 2_000 }))
}))

type RefundRead = Pick<Contract['Refund'], 'id' | 'charge' | 'state' | 'reference' | 'amount' | 'currency' | 'reason'>
const refundAnswer = Compile(Type.Object({
  id: Type.String(),
  charge: Type.String(),
  state: Type.Enum(['pending', 'refunded', 'failed']),
  reference: Reference,
  amount: Money,
  currency: Currency,
  reason: Type.Optional(Type.String())
}))

/** The longest reason that is stored, in characters. */
const reasonMax = 200

/** A gateway that speaks contracts/payments.yaml. The caller closes it. */
export function httpPayments ({ token, ...options }: HttpPaymentsOptions): Payments & { close (): Promise<void> } {
  const gateway = new Outbound({ ...options, name: 'PAYMENTS_URL', headers: () => bearer(token) })

  const askCharge = async (asked: Omit<Asked<unknown>, 'read'>, of: { id: string, amount?: bigint, currency?: string }, call: Call): Promise<Charge> => {
    return await gateway.ask({ ...asked, read: answer => chargeOf(asked.kind, answer, of) }, call)
  }

  function chargeOf (kind: string, answer: Answer, of: { id: string, amount?: bigint, currency?: string }): Charge {
    // For a charge that cannot be captured or voided, a 409 holds its state.
    if (answer.status !== 200 && !(answer.status === 409 && (kind === 'capture' || kind === 'void'))) throw refused(answer)
    const { id, state, reference, amount, currency, reason, actionUrl }: ChargeRead = gateway.bodyOf(chargeAnswer, answer, kind)
    requireSame(kind, answer, { id, amount: BigInt(amount), currency }, of)
    return {
      state,
      reference,
      amount: BigInt(amount),
      currency,
      ...reason !== undefined && { reason: wordsOf(reason) },
      ...actionUrl !== undefined && { actionUrl }
    }
  }

  function refundOf (kind: string, answer: Answer, of: { id: string, charge?: string, amount?: bigint, currency?: string }): Refund {
    if (answer.status !== 200) throw refused(answer)
    const { id, charge, state, reference, amount, currency, reason }: RefundRead = gateway.bodyOf(refundAnswer, answer, kind)
    requireSame(kind, answer, { id, charge, amount: BigInt(amount), currency }, of)
    return { state, reference, amount: BigInt(amount), ...reason !== undefined && { reason: wordsOf(reason) } }
  }

  /** An answer about another charge proves nothing about this one. */
  function requireSame (kind: string, { status }: Answer, answered: Record<string, string | bigint>, asked: Record<string, string | bigint>): void {
    const faults = Object.entries(asked).filter(([name, value]) => answered[name] !== value).map(([name]) => `/${name} is not what was asked`)
    if (faults.length > 0) throw gateway.againstContract({ status, kind, faults })
  }

  return {
    async charge ({ id, order, customer, amount, currency, captures }: ChargeRequest, call) {
      const body: Contract['ChargeRequest'] = { order, customer, amount: Number(amount), currency, capture: captures }
      return await askCharge({ kind: 'charge', method: 'PUT', path: `/charges/${id}`, body: JSON.stringify(body) }, { id, amount, currency }, call)
    },
    async capture (id, amount, call) {
      const body: Contract['CaptureRequest'] = { amount: Number(amount) }
      return await askCharge({ kind: 'capture', method: 'POST', path: `/charges/${id}/capture`, body: JSON.stringify(body) }, { id }, call)
    },
    async void (id, call) {
      return await askCharge({ kind: 'void', method: 'POST', path: `/charges/${id}/void` }, { id }, call)
    },
    async find (id, call) {
      return await gateway.ask({ kind: 'find', method: 'GET', path: `/charges/${id}`, read: answer => answer.status === 404 ? undefined : chargeOf('find', answer, { id }) }, call)
    },
    async refund ({ id, charge, amount, currency }: RefundRequest, call) {
      const body: Contract['RefundRequest'] = { charge, amount: Number(amount), currency }
      return await gateway.ask({ kind: 'refund', method: 'PUT', path: `/refunds/${id}`, body: JSON.stringify(body), read: answer => refundOf('refund', answer, { id, charge, amount, currency }) }, call)
    },
    async findRefund (id, call) {
      return await gateway.ask({ kind: 'find refund', method: 'GET', path: `/refunds/${id}`, read: answer => answer.status === 404 ? undefined : refundOf('find refund', answer, { id }) }, call)
    },
    close: async () => await gateway.close()
  }
}

/** By the contract this call did nothing; but an earlier call with the same id may have done something. */
function refused ({ status }: Answer): Unclear {
  return new Unclear(`PAYMENTS_URL refused with ${status}. An earlier call with this id may have taken effect; the settler asks for it.`, { status })
}

/** Without the characters that Postgres cannot store. */
function wordsOf (reason: string): string {
  return reason.slice(0, reasonMax).toWellFormed().replaceAll('\0', '')
}
