import { createHmac } from 'node:crypto'
import { Type, type Static } from 'typebox'
import { Compile } from 'typebox/compile'
import { exponentOf, rescaled } from '../orders/money.ts'
import { NotCalled, type Call, type Charge, type ChargeState, type Payments, type Refund } from '../orders/ports.ts'
import { isSame, parsedNotification, requireRecent, signatureInvalid, type ReadNotification } from '../routes/notifications.ts'
import { Money, storableText } from '../routes/schemas.ts'
import { Outbound, Unclear, type Answer, type Asked, type OutboundOptions } from './outbound.ts'

/** Stripe's ids of a customer and of a means of payment. */
export interface Payer {
  /** cus_… */
  customer: string
  /** pm_… */
  paymentMethod: string
}

export interface StripePaymentsOptions extends Pick<OutboundOptions, 'timeoutMs' | 'log' | 'onEnd' | 'breakMs'> {
  /** sk_… or rk_… */
  secretKey: string
  /** @returns undefined if the customer has no means of payment */
  payerOf: (customer: string, call: Call) => Promise<Payer | undefined>
  /** Where a bank's page sends the customer back to. */
  returnUrl: string
  /** Default: https://api.stripe.com */
  url?: string
}

/** The API version of the schemas below. */
const stripeVersion = '2024-06-20'

/** Entries of a page, and pages read at most. */
const pageSize = 100
const pagesMax = 10

/** The list is read for so long after an id was made, in s: a charge mostly follows within seconds. The search, which lags a minute, finds later ones. */
const chargedWithinS = 900
/** The settler repeats a refund for at most a day. */
const refundedWithinS = 86_400

/** Ids kept at most, to ask for a charge without a search. */
const knownMax = 10_000

const statuses = ['requires_payment_method', 'requires_confirmation', 'requires_action', 'processing', 'requires_capture', 'canceled', 'succeeded'] as const
const Reference = storableText({ minLength: 1, maxLength: 255 })
const Nullable = <Schema extends Parameters<typeof Type.Optional>[0]>(schema: Schema) => Type.Optional(Type.Union([schema, Type.Null()]))
const Metadata = Nullable(Type.Record(Type.String(), Type.String()))

// https://docs.stripe.com/api/payment_intents/object
const IntentObject = Type.Object({
  id: Reference,
  object: Type.Literal('payment_intent'),
  status: Type.Enum([...statuses]),
  amount: Money,
  currency: Type.String({ pattern: '^[a-z]{3}$' }),
  metadata: Metadata,
  next_action: Nullable(Type.Object({ redirect_to_url: Nullable(Type.Object({ url: Nullable(Type.String({ pattern: '^https://[\\x21-\\x7e]+$', maxLength: 2_000 })) })) })),
  last_payment_error: Nullable(Type.Object({ code: Nullable(Type.String()), decline_code: Nullable(Type.String()) }))
})
type Intent = Static<typeof IntentObject>

// https://docs.stripe.com/api/refunds/object
const RefundObject = Type.Object({
  id: Reference,
  object: Type.Literal('refund'),
  status: Type.Enum(['pending', 'requires_action', 'succeeded', 'failed', 'canceled']),
  amount: Money,
  currency: Type.String({ pattern: '^[a-z]{3}$' }),
  metadata: Metadata,
  failure_reason: Nullable(Type.String())
})
type StripeRefund = Static<typeof RefundObject>

// https://docs.stripe.com/api/errors
const Failure = Type.Object({
  error: Type.Object({
    type: Type.String(),
    code: Nullable(Type.String()),
    decline_code: Nullable(Type.String()),
    payment_intent: Nullable(IntentObject)
  })
})

const checks = {
  intent: Compile(IntentObject),
  intents: Compile(Type.Object({ data: Type.Array(IntentObject), has_more: Type.Boolean() })),
  refund: Compile(RefundObject),
  refunds: Compile(Type.Object({ data: Type.Array(RefundObject), has_more: Type.Boolean() })),
  failure: Compile(Failure)
}

/**
 * Stripe, by its PaymentIntents. Our id is the idempotency key and stands in the metadata. Stripe keeps a key for at least 24 h.
 *
 * Only this service confirms a charge, so a failed one stays failed: give no browser its client secret. The caller closes this.
 */
export function stripePayments ({ secretKey, payerOf, returnUrl, url = 'https://api.stripe.com', ...options }: StripePaymentsOptions): Payments & { close (): Promise<void> } {
  const stripe = new Outbound({ ...options, name: 'Stripe', url, answerMax: 1_048_576, headers: { authorization: `Bearer ${secretKey}`, 'stripe-version': stripeVersion } })
  /** Stripe's ids by ours. */
  const known = new Map<string, string>()

  async function get<T> (kind: string, path: string, read: Asked<T>['read'], call: Call): Promise<T> {
    return await stripe.ask({ kind, method: 'GET', path, read }, call)
  }

  async function post<T> (kind: string, path: string, key: string, form: Record<string, string>, read: Asked<T>['read'], call: Call): Promise<T> {
    const headers = { 'content-type': 'application/x-www-form-urlencoded', 'idempotency-key': key }
    return await stripe.ask({ kind, method: 'POST', path, headers, body: new URLSearchParams(form).toString(), read }, call)
  }

  /** @throws Unclear for any other status */
  function only200 (answer: Answer): Answer {
    if (answer.status === 200) return answer
    const { error } = checks.failure.Check(answer.body) ? answer.body : {}
    throw new Unclear(`Stripe refused with ${answer.status}${error === undefined ? '' : ` (${error.code ?? error.type})`}.`, { status: answer.status })
  }

  function remember (id: string, intent: Intent): Intent {
    if (known.size >= knownMax) known.clear()
    known.set(id, intent.id)
    return intent
  }

  /** The search finds charges older than a minute; the list finds new ones. */
  async function lookUp (id: string, call: Call): Promise<Intent | undefined> {
    const reference = known.get(id)
    if (reference !== undefined) return await get('find', `/v1/payment_intents/${reference}`, answer => stripe.bodyOf(checks.intent, only200(answer), 'find'), call)
    const query = encodeURIComponent(`metadata['payment_id']:'${id}'`)
    const { data: [searched] } = await get('find', `/v1/payment_intents/search?query=${query}`, answer => stripe.bodyOf(checks.intents, only200(answer), 'find'), call)
    const isOf = ({ metadata }: Intent): boolean => metadata?.payment_id === id
    const intent = searched !== undefined && isOf(searched) ? searched : await listed('find', '/v1/payment_intents', id, chargedWithinS, answer => stripe.bodyOf(checks.intents, only200(answer), 'find'), isOf, call)
    return intent && remember(id, intent)
  }

  /** @throws Unclear if there are more pages than it reads */
  async function listed<T extends { id: string }> (
    kind: string,
    path: string,
    id: string,
    withinS: number,
    read: (answer: Answer) => { data: T[], has_more: boolean },
    isSought: (one: T) => boolean,
    call: Call
  ): Promise<T | undefined> {
    const sinceS = Math.floor(timeOf(id) / 1_000) - 60
    let after = ''
    for (let page = 0; page < pagesMax; page++) {
      const { data, has_more: hasMore } = await get(kind, `${path}?limit=${pageSize}&created[gte]=${sinceS}&created[lte]=${sinceS + withinS}${after}`, read, call)
      const found = data.find(isSought)
      const last = data.at(-1)
      if (found !== undefined || !hasMore || last === undefined) return found
      after = `&starting_after=${encodeURIComponent(last.id)}`
    }
    throw new Unclear(`The first ${pagesMax * pageSize} entries that Stripe has of that time do not include it. There are more, which were not read.`)
  }

  /** A lookup before a change: if it fails, nothing was done. */
  async function intentToChange (id: string, call: Call): Promise<Intent> {
    const intent = await lookUp(id, call).catch((error: unknown) => { throw new NotCalled('Stripe did not answer the lookup of the charge. Nothing was done there.', { cause: error }) })
    if (intent === undefined) throw new NotCalled('Stripe has no such charge. Nothing was done there.')
    return intent
  }

  /** For a decline, and for a state that does not allow the change, Stripe's error holds the charge. */
  function changed (kind: string, id: string) {
    return (answer: Answer): Charge => {
      if (answer.status === 200) return chargeOf(remember(id, stripe.bodyOf(checks.intent, answer, kind)))
      if ((answer.status === 402 || answer.status === 400) && checks.failure.Check(answer.body)) {
        const { payment_intent: intent } = answer.body.error
        if (intent != null) return chargeOf(remember(id, intent))
      }
      return chargeOf(stripe.bodyOf(checks.intent, only200(answer), kind))
    }
  }

  return {
    async charge ({ id, order, customer, amount, currency, captures }, call) {
      const declined = (reason: string): Charge => ({ state: 'declined', reference: '', amount, currency, reason })
      const minor = stripeAmountOf(amount, currency)
      if (minor === undefined) return declined('currency-not-supported')
      const payer = await payerOf(customer, call).catch((error: unknown) => { throw new NotCalled('The means of payment of the customer could not be read. Stripe was not called.', { cause: error }) })
      if (payer === undefined) return declined('no-payment-method')
      return await post('charge', '/v1/payment_intents', id, {
        amount: String(minor),
        currency: currency.toLowerCase(),
        customer: payer.customer,
        payment_method: payer.paymentMethod,
        confirm: 'true',
        capture_method: captures ? 'automatic' : 'manual',
        return_url: returnUrl,
        'automatic_payment_methods[enabled]': 'true',
        'metadata[payment_id]': id,
        'metadata[order_id]': order
      }, answer => {
        // Stripe rejected the request as invalid and holds no charge for it, so nothing was charged.
        if (answer.status === 400 && checks.failure.Check(answer.body) && answer.body.error.type === 'invalid_request_error' && answer.body.error.payment_intent == null) return declined(answer.body.error.code ?? 'invalid-request')
        const charge = changed('charge', id)(answer)
        if (charge.amount !== amount || charge.currency !== currency) throw stripe.againstContract({ status: answer.status, kind: 'charge', faults: ['/amount or /currency is not what was asked'] })
        return charge
      }, call)
    },
    async capture (id, amount, call) {
      const intent = await intentToChange(id, call)
      const minor = stripeAmountOf(amount, intent.currency.toUpperCase())
      if (minor === undefined) throw new NotCalled('Stripe does not accept this amount in this currency. Nothing was done there.')
      return await post('capture', `/v1/payment_intents/${intent.id}/capture`, `${id}:capture`, { amount_to_capture: String(minor) }, changed('capture', id), call)
    },
    async void (id, call) {
      const intent = await intentToChange(id, call)
      return await post('void', `/v1/payment_intents/${intent.id}/cancel`, `${id}:void`, {}, changed('void', id), call)
    },
    async find (id, call) {
      const intent = await lookUp(id, call)
      return intent && chargeOf(intent)
    },
    async refund ({ id, charge, amount, currency }, call) {
      const failed = (reason: string): Refund => ({ state: 'failed', reference: '', amount, reason })
      const minor = stripeAmountOf(amount, currency)
      if (minor === undefined) return failed('currency-not-supported')
      const intent = await intentToChange(charge, call)
      return await post('refund', '/v1/refunds', id, { payment_intent: intent.id, amount: String(minor), 'metadata[refund_id]': id, 'metadata[payment_id]': charge }, answer => {
        // The amount is more than is left of the charge: nothing was refunded.
        if (answer.status === 400 && checks.failure.Check(answer.body) && answer.body.error.type === 'invalid_request_error') return failed(answer.body.error.code ?? 'invalid-request')
        return refundOf(stripe.bodyOf(checks.refund, only200(answer), 'refund'))
      }, call)
    },
    async findRefund (id, call) {
      const refund = await listed('find refund', '/v1/refunds', id, refundedWithinS, answer => stripe.bodyOf(checks.refunds, only200(answer), 'find refund'), ({ metadata }: StripeRefund) => metadata?.refund_id === id, call)
      return refund && refundOf(refund)
    },
    close: async () => await stripe.close()
  }
}

/**
 * Events of Stripe, for routes/notifications.ts. https://docs.stripe.com/webhooks#verify-manually
 *
 * @param secret the endpoint's: whsec_…
 */
export function stripeWebhooks (secret: string, now: () => number = Date.now): ReadNotification {
  return ({ 'stripe-signature': header }, body) => {
    if (typeof header !== 'string') throw signatureInvalid('It has no Stripe-Signature.')
    const parts = header.split(',').map(part => part.split('='))
    const timestamp = parts.find(([name]) => name === 't')?.[1] ?? ''
    const expected = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest()
    const isSigned = parts.some(([name, value = '']) => name === 'v1' && isSame(Buffer.from(value, 'hex'), expected))
    if (!isSigned) throw signatureInvalid('The signature does not fit this body and this secret.')
    requireRecent(timestamp, now)
    const event = parsedNotification(body)
    if (!stripeEvent.Check(event)) return undefined
    const { object, metadata } = event.data.object
    return object === 'payment_intent' ? metadata.payment_id : object === 'refund' ? metadata.refund_id : undefined
  }
}

const Id = Type.Optional(Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }))
/** Only what an event is about. */
const stripeEvent = Compile(Type.Object({
  data: Type.Object({
    object: Type.Object({
      object: Type.String(),
      metadata: Type.Object({ payment_id: Id, refund_id: Id })
    })
  })
}))

function chargeOf ({ id, status, amount, currency, next_action: action, last_payment_error: failure }: Intent): Charge {
  const state = stateOf(status, failure != null)
  const actionUrl = action?.redirect_to_url?.url
  return {
    state,
    reference: id,
    ...moneyOf(amount, currency),
    ...state === 'declined' && { reason: failure?.decline_code ?? failure?.code ?? 'declined' },
    ...state === 'pending' && actionUrl != null && { actionUrl }
  }
}

function stateOf (status: Intent['status'], hasFailed: boolean): ChargeState {
  switch (status) {
    case 'succeeded': return 'charged'
    case 'requires_capture': return 'authorised'
    case 'canceled': return 'voided'
    case 'requires_payment_method': return hasFailed ? 'declined' : 'pending'
    default: return 'pending'
  }
}

function refundOf ({ id, status, amount, currency, failure_reason: reason }: StripeRefund): Refund {
  const state = status === 'succeeded' ? 'refunded' : status === 'failed' || status === 'canceled' ? 'failed' : 'pending'
  return { state, reference: id, amount: moneyOf(amount, currency).amount, ...state === 'failed' && { reason: reason ?? status } }
}

// Where https://docs.stripe.com/currencies#minor-units differs from the exponents of ISO 4217.
const zeroDecimal: ReadonlySet<string> = new Set(['BIF', 'CLP', 'DJF', 'GNF', 'JPY', 'KMF', 'KRW', 'MGA', 'PYG', 'RWF', 'VND', 'VUV', 'XAF', 'XOF', 'XPF'])
const threeDecimal: ReadonlySet<string> = new Set(['BHD', 'JOD', 'KWD', 'OMR', 'TND'])

/** undefined: not charged by Stripe. For UGX its pages say both 0 and 2: a wrong guess would be wrong by a factor of 100. */
function stripeExponentOf (currency: string): number | undefined {
  if (zeroDecimal.has(currency)) return 0
  if (threeDecimal.has(currency)) return 3
  // ISK has no minor unit, but Stripe writes it with one.
  if (currency === 'ISK') return 2
  return exponentOf(currency) === 2 ? 2 : undefined
}

/** @returns undefined if Stripe does not accept the amount: a fraction of its unit, or thousandths that do not end with 0 */
export function stripeAmountOf (amount: bigint, currency: string): bigint | undefined {
  const exponent = stripeExponentOf(currency)
  const minor = exponent === undefined ? undefined : rescaled(amount, exponentOf(currency), exponent)
  return minor !== undefined && exponent === 3 && minor % 10n !== 0n ? undefined : minor
}

/** @throws Unclear if it is no whole number of our units */
function moneyOf (amount: number, stripeCurrency: string): { amount: bigint, currency: string } {
  const currency = stripeCurrency.toUpperCase()
  const exponent = stripeExponentOf(currency)
  const minor = exponent === undefined ? undefined : rescaled(BigInt(amount), exponent, exponentOf(currency))
  if (minor === undefined) throw new Unclear(`Stripe answered with an impossible amount in ${currency}.`, { status: 200 })
  return { amount: minor, currency }
}

/** The time of a UUIDv7, in ms since 1970. */
function timeOf (id: string): number {
  return Number.parseInt(id.replace('-', '').slice(0, 12), 16)
}
