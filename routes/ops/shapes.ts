import { Type, type Static } from 'typebox'
import { orderStatuses } from '../../orders/order.ts'
import type { DrainReport } from 'fastify-drain'

// What the operators' port answers. The page's script takes its types from here, so nothing of the server may be imported.

const Time = Type.String({ format: 'date-time' })
const nullable = <Value>(type: 'string' | 'number' | 'integer', options: { format?: string, description?: string } = {}) => Type.Unsafe<Value | null>({ type: [type, 'null'], ...options })
const nullableTime = (description?: string) => nullable<string>('string', { format: 'date-time', ...description !== undefined && { description } })
const nullableText = (description?: string) => nullable<string>('string', description === undefined ? {} : { description })
const nullableNumber = (description?: string) => nullable<number>('number', description === undefined ? {} : { description })

const Report = Type.Unsafe<DrainReport>({ type: 'object', additionalProperties: true, description: 'The DrainReport of fastify-drain' })

const Check = Type.Object({ name: Type.String(), ok: Type.Boolean() })

const Sender = Type.Object({
  peer: Type.String({ description: 'The address that the connection came from' }),
  userAgent: nullableText(),
  requests: Type.Integer(),
  method: Type.String({ description: 'Of its last request' }),
  route: Type.String(),
  age: Type.Integer({ description: 'ms since then' })
})

/** All that the page shows of the process. */
export const LiveSchema = Type.Object({
  process: Type.Object({
    instance: Type.String(),
    pid: Type.Integer(),
    version: Type.String(),
    startedAt: Time,
    node: Type.String(),
    logs: Type.String({ description: 'The command that prints its log, with {instance} and {pid} to be filled in' })
  }),
  report: Report,
  readiness: Type.Array(Check),
  publisher: Type.Object({ ok: Type.Boolean(), reason: Type.Optional(Type.String({ description: 'Why it takes no events. They wait; orders go on' })) }),
  intake: Type.Object({
    queued: Type.Integer({ description: 'Orders that wait for a batch' }),
    batches: Type.Integer({ description: 'Batches under way' })
  }),
  streams: Type.Integer({ description: 'Event streams that are open' }),
  database: Type.Object({ open: Type.Integer(), idle: Type.Integer(), waiting: Type.Integer() }),
  lastMinute: Type.Object({
    requestsPerSecond: Type.Number(),
    errorShare: Type.Number({ description: 'Of the requests, those with status 500 and above: 0 to 1' })
  }),
  stop: Type.Object({
    lameDuck: Type.Object({ minMs: Type.Integer(), quietMs: Type.Integer(), maxMs: Type.Integer() }),
    waiting: Type.Unsafe<{ for: 'min' | 'quiet' | 'max' | 'hooks' | 'requests' | 'work' | 'resources', left: number | null, atMost: number } | null>({
      type: ['object', 'null'],
      properties: {
        for: { type: 'string', description: 'min, quiet, max: of the lame duck. Then hooks, requests, tracked work, and resources that close' },
        left: { type: ['number', 'null'], description: 'ms, if nothing changes; null: not known' },
        atMost: { type: 'number', description: 'ms' }
      }
    }),
    arrivals: Type.Object({
      requests: Type.Integer({ description: 'That came since the stop began, without probes' }),
      perSecond: Type.Number(),
      lastAge: nullableNumber('ms since the last one; null: none came'),
      senders: Type.Array(Sender, { description: 'The last ones first; empty for others than operators' })
    })
  }),
  mayDrain: Type.Enum(['granted', 'token-needed', 'denied'], { description: 'Whether who asks may POST /drain' })
})
export type Live = Static<typeof LiveSchema>

const TallySchema = Type.Object({ count: Type.Integer(), ids: Type.Array(Type.String(), { description: 'The first 20' }) })

const lives = ['finished', 'this', 'living', 'gone', 'unknown'] as const
export type LifeKind = typeof lives[number]
export const LifeKindSchema = Type.Enum([...lives], {
  description: 'this: the process that answers. living: it was heard of late. gone: it ended without finishing, as after SIGKILL. unknown: not finished; it may run or not'
})

export const FleetLifeSchema = Type.Object({
  id: Type.String({ format: 'uuid' }),
  instance: Type.String(),
  pid: Type.Integer(),
  life: LifeKindSchema,
  version: nullableText(),
  state: nullableText('Of the drain, when it was heard last'),
  opsUrl: nullableText(),
  inFlight: nullableNumber('Requests, when it was heard last'),
  startedAt: Time,
  seenAt: nullableTime('When it was heard last; null: it runs a version that does not tell'),
  heartbeatAgeMs: nullableNumber('By the clock of the database'),
  stoppingAt: nullableTime(),
  finishedAt: nullableTime(),
  deadlineMs: nullableNumber(),
  reason: nullableText(),
  exitCode: nullableNumber(),
  outcome: nullableText('clean, abandoned, failed or unfinished, once it is counted'),
  phases: Type.Unsafe<DrainReport['phases'] | null>({ type: ['object', 'null'], additionalProperties: true, description: 'Of its report: ms from the start of the stop' }),
  elapsed: nullableNumber('ms that its stop took'),
  requests: Type.Unsafe<{ completed: number, refused: number, abandoned: Tally, cut: Tally } | null>({
    type: ['object', 'null'],
    properties: { completed: { type: 'integer' }, refused: { type: 'integer' }, abandoned: TallySchema, cut: TallySchema },
    description: 'Of its report. cut: finished, but its client took nothing of the answer'
  }),
  abandonedWork: Type.Array(Type.String(), { description: 'Tracked work that was abandoned: its labels, the first 20' })
})
export type FleetLife = Static<typeof FleetLifeSchema>
type Tally = Static<typeof TallySchema>

export const FleetSchema = Type.Object({
  now: Time,
  lives: Type.Array(FleetLifeSchema, { description: 'That live, or ended in the last hour; the one that started last comes first' })
})
export type Fleet = Static<typeof FleetSchema>

export const DeadEventSchema = Type.Object({
  orderId: Type.String({ format: 'uuid' }),
  version: Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1 }),
  type: Type.Enum([...orderStatuses]),
  customer: nullableText(),
  createdAt: Time,
  deadAt: Time,
  attempts: Type.Integer(),
  reason: nullableText('What the publisher said last'),
  waiting: Type.Integer({ description: 'Later events of its order, which wait for it' })
})
export type ListedDeadEvent = Static<typeof DeadEventSchema>

export const EarlierLifeSchema = Type.Object({
  id: Type.String({ format: 'uuid' }),
  instance: Type.String(),
  pid: Type.Integer(),
  life: LifeKindSchema,
  startedAt: Time,
  stoppingAt: nullableTime(),
  finishedAt: nullableTime(),
  reason: nullableText(),
  exitCode: nullable<number>('integer'),
  report: Type.Unsafe<unknown>({ description: 'As it was written then' })
})
export type EarlierLife = Static<typeof EarlierLifeSchema>

const statuses = ['ok', 'degraded', 'down'] as const
export type HealthStatus = typeof statuses[number]

const layer = {
  status: Type.Enum([...statuses]),
  reasons: Type.Array(Type.String(), { description: 'Why it is not ok' })
}
const Dependency = Type.Object({
  status: Type.Enum([...statuses]),
  informative: Type.Boolean({ description: 'true: the service does its work without it, so it never is down' }),
  reason: Type.Optional(Type.String())
})

export const HealthSchema = Type.Object({
  ...layer,
  process: Type.Object({
    ...layer,
    instance: Type.String(),
    pid: Type.Integer(),
    version: Type.String(),
    state: Type.String(),
    uptimeS: Type.Number(),
    loopUtilization: Type.Number({ description: '0 to 1, of the last second' }),
    inFlight: Type.Integer()
  }),
  dependencies: Type.Object({
    ...layer,
    database: Dependency,
    publisher: Dependency,
    issuer: Type.Optional(Dependency),
    fleet: Type.Intersect([Dependency, Type.Object({ living: nullable<number>('integer', { description: 'Instances, this one included; null: not known' }) })])
  }),
  business: Type.Object({
    ...layer,
    orders: Type.Record(Type.String(), Type.Integer(), { description: 'Requests of the last minute, to this instance, to place or to move an order, by what came of them' }),
    requestsPerSecond: Type.Number(),
    errorShare: Type.Number(),
    oldestEventAgeS: nullableNumber('Of the event that is published next; null: not known'),
    deadEvents: nullableNumber(),
    openPayments: nullableNumber('Payments and refunds that wait for the word of the gateway; null: not known'),
    oldestUnknownPaymentS: nullableNumber()
  })
})
export type Health = Static<typeof HealthSchema>
