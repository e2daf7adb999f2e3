import { createHmac } from 'node:crypto'
import { startCalled, type Behaviour, type Called, type Received } from './called.ts'

type Json = Record<string, unknown>

interface Intent extends Json {
  id: string
  status: string
  amount: number
  amount_received: number
  currency: string
  capture_method: string
  created: number
  metadata: Record<string, string>
}

export interface StripeStandIn extends Called {
  /** Its payment intents, the newest first. */
  intents: Intent[]
  refunds: Json[]
  /** Adds all intents to the search, because Stripe's search lags behind. */
  index (): void
  /** Does the next write, and loses its answer. */
  loseNext (): void
  /** The customer does what the bank asked for. */
  confirm (reference: string, passes: boolean): void
}

/**
 * A stand-in that gives a few of Stripe's answers, in the shapes that https://docs.stripe.com/api documents, for the methods of
 * payment of https://docs.stripe.com/testing. Only Stripe's own sandbox shows what Stripe really does.
 */
export async function startStripeStandIn (t: Parameters<typeof startCalled>[0]): Promise<StripeStandIn> {
  const intents: Intent[] = []
  const refunds: Json[] = []
  const indexed = new Set<string>()
  const answered = new Map<string, { form: string, answer: ReturnType<Behaviour> }>()
  const secret = 'sk_test_hunter2'

  let isLost = false
  const behaviour: Behaviour = (request, response) => {
    if (request.headers.authorization !== `Bearer ${secret}`) return failure(401, { type: 'invalid_request_error', message: 'Invalid API Key provided' })
    if (request.method === 'GET') return read(new URL(request.path, 'http://stripe'))
    const key = String(request.headers['idempotency-key'])
    const before = answered.get(key)
    if (before !== undefined) {
      return before.form === request.path + request.body ? before.answer : failure(400, { type: 'idempotency_error', message: 'Keys for idempotent requests can only be used with the same parameters they were first used with.' })
    }
    const answer = write(request)
    answered.set(key, { form: request.path + request.body, answer })
    if (!isLost) return answer
    isLost = false
    response.destroy()
    return undefined
  }

  function write ({ path, body }: Received): ReturnType<Behaviour> {
    const form = new URLSearchParams(body)
    if (path === '/v1/payment_intents') return create(form)
    if (path === '/v1/refunds') return refund(form)
    const [, reference, verb] = /^\/v1\/payment_intents\/([^/]+)\/(capture|cancel)$/.exec(path) ?? []
    const intent = intents.find(({ id }) => id === reference)
    if (intent === undefined) return failure(404, { type: 'invalid_request_error', code: 'resource_missing' })
    const allowed = verb === 'capture' ? ['requires_capture'] : ['requires_capture', 'requires_action', 'requires_payment_method']
    if (!allowed.includes(intent.status)) return failure(400, { type: 'invalid_request_error', code: 'payment_intent_unexpected_state', payment_intent: { ...intent } })
    if (verb === 'cancel') Object.assign(intent, { status: 'canceled', cancellation_reason: null })
    else Object.assign(intent, { status: 'succeeded', amount_received: Number(form.get('amount_to_capture')) })
    return { status: 200, body: { ...intent } }
  }

  function create (form: URLSearchParams): ReturnType<Behaviour> {
    const amount = Number(form.get('amount'))
    if (amount > 99_999_999) return failure(400, { type: 'invalid_request_error', code: 'amount_too_large', param: 'amount' })
    const isManual = form.get('capture_method') === 'manual'
    const intent: Intent = {
      id: `pi_${intents.length + 1}`,
      object: 'payment_intent',
      amount,
      amount_received: 0,
      amount_capturable: 0,
      capture_method: String(form.get('capture_method')),
      client_secret: 'pi_secret_hunter2',
      created: Math.floor(Date.now() / 1_000),
      currency: String(form.get('currency')),
      customer: form.get('customer'),
      last_payment_error: null,
      latest_charge: null,
      livemode: false,
      metadata: metadataOf(form),
      next_action: null,
      payment_method: form.get('payment_method'),
      status: isManual ? 'requires_capture' : 'succeeded'
    }
    intents.unshift(intent)
    switch (form.get('payment_method')) {
      case 'pm_card_visa_chargeDeclinedInsufficientFunds': {
        const error = { type: 'card_error', code: 'card_declined', decline_code: 'insufficient_funds', message: 'Your card has insufficient funds.' }
        Object.assign(intent, { status: 'requires_payment_method', payment_method: null, last_payment_error: error })
        return failure(402, { ...error, payment_intent: { ...intent } })
      }
      case 'pm_card_threeDSecure2Required':
        Object.assign(intent, { status: 'requires_action', next_action: { type: 'redirect_to_url', redirect_to_url: { return_url: form.get('return_url'), url: `https://hooks.stripe.com/3d_secure_2/hosted?${intent.id}` } } })
    }
    if (intent.status === 'succeeded') intent.amount_received = amount
    return { status: 200, body: { ...intent } }
  }

  function refund (form: URLSearchParams): ReturnType<Behaviour> {
    const intent = intents.find(({ id }) => id === form.get('payment_intent'))
    if (intent === undefined) return failure(404, { type: 'invalid_request_error', code: 'resource_missing' })
    const amount = Number(form.get('amount'))
    const before = refunds.filter(({ payment_intent: of }) => of === intent.id).reduce((sum, one) => sum + Number(one.amount), 0)
    if (before === intent.amount_received) return failure(400, { type: 'invalid_request_error', code: 'charge_already_refunded' })
    if (before + amount > intent.amount_received) return failure(400, { type: 'invalid_request_error', message: 'Refund amount is greater than unrefunded amount on charge', param: 'amount' })
    const made = { id: `re_${refunds.length + 1}`, object: 'refund', amount, charge: 'ch_1', created: Math.floor(Date.now() / 1_000), currency: intent.currency, metadata: metadataOf(form), payment_intent: intent.id, reason: null, status: 'succeeded' }
    refunds.unshift(made)
    return { status: 200, body: made }
  }

  function read ({ pathname, searchParams }: URL): ReturnType<Behaviour> {
    if (pathname === '/v1/payment_intents/search') {
      const [, id] = /^metadata\['payment_id'\]:'([^']+)'$/.exec(searchParams.get('query') ?? '') ?? []
      return { status: 200, body: { object: 'search_result', url: pathname, has_more: false, data: intents.filter(intent => indexed.has(intent.id) && intent.metadata.payment_id === id) } }
    }
    if (pathname === '/v1/payment_intents') return list(pathname, intents, searchParams)
    if (pathname === '/v1/refunds') return list(pathname, refunds, searchParams)
    const intent = intents.find(({ id }) => pathname === `/v1/payment_intents/${id}`)
    return intent === undefined ? failure(404, { type: 'invalid_request_error', code: 'resource_missing' }) : { status: 200, body: intent }
  }

  function list (url: string, all: Json[], query: URLSearchParams): ReturnType<Behaviour> {
    const within = all.filter(({ created }) => Number(created) >= Number(query.get('created[gte]')) && Number(created) <= Number(query.get('created[lte]')))
    const from = query.has('starting_after') ? within.findIndex(({ id }) => id === query.get('starting_after')) + 1 : 0
    const limit = Number(query.get('limit') ?? 10)
    return { status: 200, body: { object: 'list', url, has_more: within.length > from + limit, data: within.slice(from, from + limit) } }
  }

  const called = await startCalled(t, behaviour)
  return {
    ...called,
    intents,
    refunds,
    index () {
      for (const { id } of intents) indexed.add(id)
    },
    loseNext () {
      isLost = true
    },
    confirm (reference, passes) {
      const intent = intents.find(({ id }) => id === reference)
      if (intent === undefined) throw new Error(`There is no payment intent ${reference}.`)
      if (passes) Object.assign(intent, { next_action: null, status: intent.capture_method === 'manual' ? 'requires_capture' : 'succeeded', amount_received: intent.amount })
      else Object.assign(intent, { next_action: null, status: 'requires_payment_method', last_payment_error: { type: 'invalid_request_error', code: 'payment_intent_authentication_failure' } })
    }
  }
}

/** The signature by https://docs.stripe.com/webhooks#verify-manually. */
export function stripeSignature (body: string, secret: string, at = Date.now()): string {
  const timestamp = Math.floor(at / 1_000)
  return `t=${timestamp},v1=${createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')},v0=ignored`
}

function metadataOf (form: URLSearchParams): Record<string, string> {
  return Object.fromEntries([...form].flatMap(([name, value]) => {
    const [, key] = /^metadata\[(\w+)\]$/.exec(name) ?? []
    return key === undefined ? [] : [[key, value]]
  }))
}

function failure (status: number, error: Json): { status: number, body: Json } {
  return { status, body: { error } }
}
