import { Type, type Static } from 'typebox'
import { orderStatuses } from '../../orders/order.ts'
import type { DrainReport } from 'fastify-drain'

// The answers of the ops port. The page's script takes its types from here, so this file must import nothing of the server.

const Time = Type.String({ format: 'date-time' })
const nullable = <Value>(type: 'string' | 'number' | 'integer', options: { format?: string, description?: string } = {}) => Type.Unsafe<Value | null>({ type: [type, 'null'], ...options })
const nullableTime = (description?: string) => nullable<string>('string', { format: 'date-time', ...description !== undefined && { description } })
const nullableText = (description?: string) => nullable<string>('string', description === undefined ? {} : { description })
const nullableNumber = (description?: string) => nullable<number>('number', description === undefined ? {} : { description })

const Report = Type.Unsafe<DrainReport>({ type: 'object', additionalProperties: true, description: 'The DrainReport of fastify-drain' })

const Check = Type.Object({ name: Type.String(), ok: Type.Boolean() })

const Sender = Type.Object({
  peer: Type.String({ description: 'The address of the connection' }),
  userAgent: nullableText(),
  requests: Type.Integer(),
  method: Type.String({ description: 'The method of the last request' }),
  route: Type.String(),
  age: Type.Integer({ description: 'ms since the last request' })
})

/** Everything that the page shows about the process. */
export const LiveSchema = Type.Object({
  process: Type.Object({
    instance: Type.String(),
    pid: Type.Integer(),
    version: Type.String(),
    startedAt: Time,
    node: Type.String(),
    logs: Type.String({ description: 'The command that prints its log; fill in {instance} and {pid}' })
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
    errorShare: Type.Number({ description: 'The share of requests with status 500 and above: 0 to 1' })
  }),
  stop: Type.Object({
    lameDuck: Type.Object({ minMs: Type.Integer(), quietMs: Type.Integer(), maxMs: Type.Integer() }),
    waiting: Type.Unsafe<{ for: 'min' | 'quiet' | 'max' | 'hooks' | 'requests' | 'work' | 'resources', left: number | null, atMost: number } | null>({
      type: ['object', 'null'],
      properties: {
        for: { type: 'string', description: 'min, quiet and max of the lame duck; then hooks, requests, tracked work, and resources that close' },
        left: { type: ['number', 'null'], description: 'ms, if nothing changes; null: not known' },
        atMost: { type: 'number', description: 'ms' }
      }
    }),
    arrivals: Type.Object({
      requests: Type.Integer({ description: 'Requests since the stop began, without probes' }),
      perSecond: Type.Number(),
      lastAge: nullableNumber('ms since the last one; null: none came'),
      senders: Type.Array(Sender, { description: 'The latest first; empty unless an operator asks' })
    })
  }),
  mayDrain: Type.Enum(['granted', 'token-needed', 'denied'], { description: 'Whether this client may POST /drain' })
})
export type Live = Static<typeof LiveSchema>

const TallySchema = Type.Object({ count: Type.Integer(), ids: Type.Array(Type.String(), { description: 'The first 20' }) })

const lives = ['finished', 'this', 'living', 'gone', 'unknown'] as const
export type LifeKind = typeof lives[number]
export const LifeKindSchema = Type.Enum([...lives], {
  description: 'this: the process that answers. living: its heartbeat is recent. gone: it ended without finishing, as after SIGKILL. unknown: not finished; it may still run'
})

export const FleetLifeSchema = Type.Object({
  id: Type.String({ format: 'uuid' }),
  instance: Type.String(),
  pid: Type.Integer(),
  life: LifeKindSchema,
  version: nullableText(),
  state: nullableText('The state of its drain, by the last heartbeat'),
  opsUrl: nullableText(),
  inFlight: nullableNumber('Requests in flight, by the last heartbeat'),
  startedAt: Time,
  seenAt: nullableTime('The last heartbeat; null: its version writes none'),
  heartbeatAgeMs: nullableNumber('By the clock of the database'),
  stoppingAt: nullableTime(),
  finishedAt: nullableTime(),
  deadlineMs: nullableNumber(),
  reason: nullableText(),
  exitCode: nullableNumber(),
  outcome: nullableText('clean, abandoned, failed or unfinished, once it is counted'),
  phases: Type.Unsafe<DrainReport['phases'] | null>({ type: ['object', 'null'], additionalProperties: true, description: 'From its report: ms from the start of the stop' }),
  elapsed: nullableNumber('The duration of its stop, in ms'),
  requests: Type.Unsafe<{ completed: number, refused: number, abandoned: Tally, cut: Tally } | null>({
    type: ['object', 'null'],
    properties: { completed: { type: 'integer' }, refused: { type: 'integer' }, abandoned: TallySchema, cut: TallySchema },
    description: 'From its report. cut: finished, but the client did not read the answer'
  }),
  abandonedWork: Type.Array(Type.String(), { description: 'The labels of abandoned tracked work, the first 20' })
})
export type FleetLife = Static<typeof FleetLifeSchema>
type Tally = Static<typeof TallySchema>

export const FleetSchema = Type.Object({
  now: Time,
  lives: Type.Array(FleetLifeSchema, { description: 'Processes that live, or ended in the last hour; the latest start comes first' })
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
  reason: nullableText("The publisher's last reason"),
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
  report: Type.Unsafe<unknown>({ description: 'As the process wrote it' })
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
  informative: Type.Boolean({ description: 'true: the service works without it, so it is never down' }),
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
    orders: Type.Record(Type.String(), Type.Integer(), { description: 'Requests of the last minute to this instance that place or move an order, by outcome' }),
    requestsPerSecond: Type.Number(),
    errorShare: Type.Number(),
    oldestEventAgeS: nullableNumber('The age of the event that is published next; null: not known'),
    deadEvents: nullableNumber(),
    openPayments: nullableNumber("Payments and refunds that wait for the gateway's answer; null: not known"),
    oldestUnknownPaymentS: nullableNumber()
  })
})
export type Health = Static<typeof HealthSchema>
