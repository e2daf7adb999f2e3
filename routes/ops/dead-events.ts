import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type, type Static } from 'typebox'
import type { DeadCursor, DeadEvent } from '../../orders/dead-events.ts'
import { orderStatuses } from '../../orders/order.ts'
import { Problem } from '../../plugins/errors.ts'
import { nullableText, storableText } from '../schemas.ts'
import { requireOperator, type Operators } from './access.ts'
import { DeadEventSchema, type ListedDeadEvent } from './shapes.ts'
import type { FastifyInstance, FastifyRequest } from 'fastify'

const Key = Type.Pick(DeadEventSchema, ['orderId', 'version'])

const Changed = Type.Object({
  ...Key.properties,
  state: Type.Enum(['waiting', 'dead', 'discarded', 'published']),
  changed: Type.Boolean({ description: 'false: it was in this state already' })
})

const filter = { type: Type.Optional(Type.Enum([...orderStatuses])), reason: Type.Optional(storableText({ minLength: 1, maxLength: 200, description: 'A part of the reason' })) }

/** The events that one statement revives. */
const reviveAtOnce = 1_000
/** How long one request goes on reviving, in ms. */
const reviveForMs = 5_000

export interface DeadEventsOptions {
  service: FastifyInstance
  operators: Operators
}

/** Lists, revives and discards dead events. docs/runbooks/dead-events.md says when. */
const deadEvents: FastifyPluginAsyncTypebox<DeadEventsOptions> = async (ops, { service, operators }) => {
  const { deadEvents } = service.orders

  // Dead events name customers, so reading them takes the same right.
  ops.addHook('onRequest', async request => {
    requireOperator(request, operators, 'see and change the dead events', 'Nothing was changed.')
    const { state } = service.drain
    // Prisma opens a new pool for a query after $disconnect, and nothing would close it.
    if (state === 'closing' || state === 'closed') throw new Problem('not-started', `The service is ${state}, and so is its database. Nothing was changed. Ask another instance, or ask after the restart.`, { headers: { 'retry-after': '1' } })
  })

  ops.get('/events/dead', {
    schema: {
      querystring: Type.Object({
        ...filter,
        limit: Type.Integer({ minimum: 1, maximum: 1_000, default: 100 }),
        cursor: Type.Optional(Type.String({ maxLength: 200 }))
      }),
      response: { 200: Type.Object({ events: Type.Array(DeadEventSchema), next: nullableText({ description: 'The cursor of the next page' }) }) }
    }
  }, async request => {
    const { type, reason, limit, cursor } = request.query
    const events = await track(service, deadEvents.list({ type, reason, limit, after: cursor === undefined ? undefined : readCursor(cursor) }))
    const last = events.at(-1)
    return { events: events.map(onTheWire), next: events.length === limit && last !== undefined ? writeCursor(last) : null }
  })

  ops.post('/events/dead/:orderId/:version/revive', { schema: { params: Key, response: { 200: Changed } } }, async request => {
    const { params } = request
    const changed = (await track(service, deadEvents.revive([params]))).length > 0
    const state = await stateOf(service, params)
    if (!changed && state === 'discarded') throw new Problem('event-not-dead', `Event ${params.version} of order ${params.orderId} was discarded, and later ones may have been published. Nothing was changed.`)
    if (changed) audit(request, 'A dead event was revived.', params)
    service.orders.wakeRelay()
    return { ...params, state, changed }
  })

  ops.post('/events/dead/:orderId/:version/discard', { schema: { params: Key, response: { 200: Changed } } }, async request => {
    const { params } = request
    const changed = (await track(service, deadEvents.discard([params]))).length > 0
    const state = await stateOf(service, params)
    if (!changed && state !== 'discarded') throw new Problem('event-not-dead', `Event ${params.version} of order ${params.orderId} is ${state}; only a dead one can be discarded. Nothing was changed.`)
    if (changed) audit(request, 'A dead event was discarded. It is never published.', params)
    service.orders.wakeRelay()
    return { ...params, state, changed }
  })

  ops.post('/events/dead/revive', {
    schema: {
      body: Type.Object({ ...filter, all: Type.Optional(Type.Literal(true)) }, { additionalProperties: false, minProperties: 1, description: 'The events of a type, with a reason, or both; or all' }),
      response: { 200: Type.Object({ revived: Type.Integer(), more: Type.Boolean({ description: 'true: ask again' }) }) }
    }
  }, async request => {
    const { type, reason } = request.body
    const began = performance.now()
    const before = new Date()
    let revived = 0
    let more = true
    while (more && performance.now() - began < reviveForMs && service.drain.state === 'serving') {
      const count = await track(service, deadEvents.reviveSome({ type, reason }, before, reviveAtOnce))
      revived += count
      more = count === reviveAtOnce
      service.orders.wakeRelay()
    }
    audit(request, 'Dead events were revived.', { type, reason, revived })
    return { revived, more }
  })
}

export default deadEvents

/** Logs who did what. */
function audit (request: FastifyRequest, message: string, details: object): void {
  request.log.info({ ...details, remoteAddress: request.raw.socket.remoteAddress }, message)
}

/** Keeps the database open for work that began in time. If the work fails, the stop does not. */
function track<T> (service: FastifyInstance, work: Promise<T>): Promise<T> {
  service.drain.track('change of dead events', Promise.allSettled([work]))
  return work
}

async function stateOf (service: FastifyInstance, key: Static<typeof Key>) {
  const state = await track(service, service.orders.deadEvents.stateOf(key))
  if (state === undefined) throw new Problem('not-found', `There is no event ${key.version} of an order ${key.orderId}. Nothing was changed.`)
  return state
}

function onTheWire ({ createdAt, deadAt, ...event }: DeadEvent): ListedDeadEvent {
  return { ...event, createdAt: createdAt.toISOString(), deadAt: deadAt.toISOString() }
}

function writeCursor ({ deadAt, orderId, version }: DeadCursor): string {
  return Buffer.from(`${deadAt.toISOString()} ${orderId} ${version}`).toString('base64url')
}

function readCursor (cursor: string): DeadCursor {
  const [, deadAt = '', orderId = '', version = ''] = /^(\d{4}-[\d-]+T[\d:.]+Z) ([0-9a-f-]{36}) (\d{1,9})$/.exec(Buffer.from(cursor, 'base64url').toString()) ?? []
  if (Number.isNaN(Date.parse(deadAt))) throw new Problem('invalid-request', 'The cursor is not from this list. Nothing was read.')
  return { deadAt: new Date(deadAt), orderId, version: Number(version) }
}
