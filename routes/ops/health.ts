import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { remembered } from '../../plugins/remembered.ts'
import { HealthSchema, type Fleet, type Health, type HealthStatus } from './shapes.ts'
import type { FastifyInstance } from 'fastify'

/** The utilization above which the event loop answers late. */
const loopBusy = 0.9
/** Shares of failed requests. Below `requestsLeast` requests a share says nothing. */
const errorsDegrade = 0.01
const errorsDown = 0.5
const requestsLeast = 20
/** Events older than this are late, in seconds. */
const eventsLateS = 60
/** The same for payments and refunds with an unknown outcome. */
const paymentsLateS = 600
/** How long the health mentions an instance that ended without finishing, in ms. */
const goneForMs = 300_000
/** How long figures from the database are reused, in ms. */
const figuresAgeMs = 15_000
/** How long reading them may take, in ms. */
const figuresTimeoutMs = 1_000

export interface HealthRoutesOptions {
  service: FastifyInstance
  readFleet: () => Promise<Fleet>
}

/**
 * The health of the service in three layers: the process, its dependencies, and its business. It is for people and monitoring;
 * a balancer asks /readyz. It answers 503 if a layer is down. An informative dependency only degrades its layer.
 */
const health: FastifyPluginAsyncTypebox<HealthRoutesOptions> = async (ops, { service, readFleet }) => {
  const figures = remembered(figuresAgeMs, () => readFigures(service))

  ops.get('/health', { schema: { response: { 200: HealthSchema, 503: HealthSchema } } }, async (_request, reply) => {
    const [dependencies, business] = await Promise.all([dependenciesOf(service, readFleet), businessOf(service, figures)])
    const layers = { process: processOf(service), dependencies, business }
    const whole = { ...worstOf(Object.values(layers)), ...layers }
    reply.code(whole.status === 'down' ? 503 : 200)
    return whole
  })
}

export default health

interface Layer {
  status: HealthStatus
  reasons: string[]
}

const severities: readonly HealthStatus[] = ['ok', 'degraded', 'down']

function worstOf (layers: Layer[]): Layer {
  const worst = Math.max(...layers.map(({ status }) => severities.indexOf(status)))
  return { status: severities[worst] ?? 'down', reasons: layers.flatMap(({ reasons }) => reasons) }
}

/** @param faults each with the status that it gives the layer, if `isSo` */
function layerOf (...faults: Array<[isSo: boolean, makes: HealthStatus, reason: string]>): Layer {
  return worstOf([{ status: 'ok', reasons: [] }, ...faults.filter(([isSo]) => isSo).map(([, status, reason]) => ({ status, reasons: [reason] }))])
}

function processOf (service: FastifyInstance): Health['process'] {
  const { drain: { state }, load, requests, stops } = service
  const loopUtilization = Math.round(load.now().loop * 1_000) / 1_000
  return {
    ...layerOf(
      [state === 'starting', 'down', 'The process is starting.'],
      [state === 'draining', 'degraded', 'The process is stopping. It still accepts requests.'],
      [state === 'closing' || state === 'closed', 'down', `The process is stopping (${state}). It accepts no more requests.`],
      [loopUtilization > loopBusy, 'degraded', `The event loop is busy for ${Math.round(100 * loopUtilization)} % of the time.`]
    ),
    instance: hostname(),
    pid: process.pid,
    version: stops.version,
    state,
    uptimeS: Math.round(process.uptime()),
    loopUtilization,
    inFlight: requests.active
  }
}

type Dependency = Health['dependencies']['publisher']

async function dependenciesOf (service: FastifyInstance, readFleet: () => Promise<Fleet>): Promise<Health['dependencies']> {
  const [readiness, issuer, fleet] = await Promise.all([service.health.readiness(), service.issuer?.health(), fleetHealth(readFleet)])
  const check = readiness.find(({ name }) => name === 'database')
  const database: Dependency = check?.ok === false
    ? { status: 'down', informative: false, reason: `The database cannot be written: ${check.reason ?? 'it does not answer'}.` }
    : { status: 'ok', informative: false }
  const dependencies = {
    database,
    publisher: informative(service.orders.publisherHealth(), 'The publisher takes no events, which wait'),
    ...issuer !== undefined && { issuer: informative(issuer, 'The issuer of the tokens does not give its keys. The service uses those that it has') },
    fleet
  }
  const layers = Object.values(dependencies).map(({ status, reason }) => ({ status, reasons: reason === undefined ? [] : [reason] }))
  return { ...worstOf(layers), ...dependencies }
}

function informative ({ ok, reason }: { ok: boolean, reason?: string }, what: string): Dependency {
  return ok ? { status: 'ok', informative: true } : { status: 'degraded', informative: true, reason: `${what}: ${reason ?? 'unknown reason'}.` }
}

async function fleetHealth (readFleet: () => Promise<Fleet>): Promise<Health['dependencies']['fleet']> {
  const fleet = await inTime(readFleet())
  if (fleet === undefined) return { status: 'ok', informative: true, living: null }
  const now = Date.parse(fleet.now)
  const gone = fleet.lives.filter(({ life, seenAt, startedAt }) => life === 'gone' && now - Date.parse(seenAt ?? startedAt) < goneForMs)
  return {
    informative: true,
    living: fleet.lives.filter(({ life }) => life === 'this' || life === 'living').length,
    ...gone.length === 0
      ? { status: 'ok' as const }
      : { status: 'degraded' as const, reason: `${gone.map(({ instance, pid }) => `${instance} (pid ${pid})`).join(', ')} ended without finishing, in the last 5 minutes.` }
  }
}

async function businessOf (service: FastifyInstance, readFigures: () => Promise<BusinessFigures>): Promise<Health['business']> {
  const { requests, errors, seconds, orders } = service.traffic.lastMinute()
  const errorShare = requests === 0 ? 0 : errors / requests
  const figures = await inTime(readFigures())
  const { oldestEventAgeS = null, deadEvents = null, openPayments = null, oldestUnknownPaymentS = null } = figures ?? {}
  const percent = `${Math.round(1_000 * errorShare) / 10} % of the requests of the last minute failed (${errors} of ${requests}).`
  const isSignificant = requests >= requestsLeast
  return {
    ...layerOf(
      [isSignificant && errorShare >= errorsDown, 'down', percent],
      [isSignificant && errorShare >= errorsDegrade && errorShare < errorsDown, 'degraded', percent],
      [(oldestEventAgeS ?? 0) > eventsLateS, 'degraded', `The oldest event waits for ${Math.round(oldestEventAgeS ?? 0)} s.`],
      [(deadEvents ?? 0) > 0, 'degraded', `${deadEvents} events are dead, and later events of their orders wait. docs/runbooks/dead-events.md says what to do.`],
      [(oldestUnknownPaymentS ?? 0) > paymentsLateS, 'degraded', `The outcome of a payment or a refund has been unknown for ${Math.round(oldestUnknownPaymentS ?? 0)} s. docs/runbooks/payments-unknown.md says what to do.`]
    ),
    orders,
    requestsPerSecond: Math.round(10 * requests / seconds) / 10,
    errorShare,
    oldestEventAgeS,
    deadEvents,
    openPayments,
    oldestUnknownPaymentS
  }
}

interface BusinessFigures {
  oldestEventAgeS: number
  deadEvents: number
  openPayments: number
  oldestUnknownPaymentS: number
}

/** @throws once the database closes in a stop, because Prisma would open it again */
async function readFigures ({ drain, orders: { store }, payments }: FastifyInstance): Promise<BusinessFigures> {
  if (drain.state === 'closing' || drain.state === 'closed') throw new Error('The database closes.')
  const reading = Promise.all([store.oldestEventAgeS(), store.outboxBacklog(), payments.store.unsettled()])
  drain.track('read of the outbox and the payments', Promise.allSettled([reading]))
  const [oldestEventAgeS, { dead }, unsettled] = await reading
  return { oldestEventAgeS, deadEvents: dead, openPayments: unsettled.payments + unsettled.refunds, oldestUnknownPaymentS: unsettled.oldestS }
}

/** undefined: it failed or took too long. The health must not hang with the database. */
async function inTime<T> (asked: Promise<T>): Promise<T | undefined> {
  return await Promise.race([asked.catch(() => undefined), delay(figuresTimeoutMs, undefined, { ref: false })])
}
