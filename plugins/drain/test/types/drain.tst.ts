import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import drain, { FST_ERR_DRAIN_BUDGET, FST_ERR_DRAIN_OPTION, FST_ERR_DRAIN_TRACK, FST_ERR_DRAIN_TWICE, FST_ERR_DRAIN_VERSIONS } from 'fastify-drain'
import type { Drain, DrainHookContext, DrainOptions, DrainReport } from 'fastify-drain'
import { describe, expect, test } from 'tstyche'

const app = Fastify()

describe('register', () => {
  test('takes the options', () => {
    expect(app.register).type.toBeCallableWith(drain)
    expect(app.register).type.toBeCallableWith(drain, {})
    expect(app.register).type.toBeCallableWith(drain, {
      signals: ['SIGTERM', 'SIGINT'],
      takeSignals: true,
      lameDuck: { min: 5_000, quiet: 1_000, max: 15_000 },
      deadline: 25_000,
      exit: false,
      refusal: { type: 'urn:example:not-started', title: 'Not started', retryAfter: 2 }
    })
  })

  test('refuses unknown options', () => {
    expect(app.register).type.not.toBeCallableWith(drain, { deadline: '25s' })
    expect(app.register).type.not.toBeCallableWith(drain, { signals: ['SIGNAL'] })
    expect(app.register).type.not.toBeCallableWith(drain, { signals: 'SIGTERM' })
    expect(app.register).type.not.toBeCallableWith(drain, { lameDuck: 5_000 })
    expect(app.register).type.not.toBeCallableWith(drain, { lameDuck: { minimum: 5_000 } })
    expect(app.register).type.not.toBeCallableWith(drain, { takeSignals: 'SIGTERM' })
    expect(app.register).type.not.toBeCallableWith(drain, { timeout: 25_000 })
    expect(app.register).type.not.toBeCallableWith(drain, { refusal: { retryAfter: '1' } })
  })
})

describe('errors', () => {
  test('are told apart by their constructors', () => {
    for (const { prototype } of [FST_ERR_DRAIN_BUDGET, FST_ERR_DRAIN_OPTION, FST_ERR_DRAIN_TRACK, FST_ERR_DRAIN_TWICE, FST_ERR_DRAIN_VERSIONS]) {
      expect(prototype).type.toBeAssignableTo<{ code: string }>()
    }
    expect(new FST_ERR_DRAIN_TWICE()).type.toBeAssignableTo<{ code: string, statusCode?: number }>()
  })
})

describe('options', () => {
  test('are all optional', () => {
    expect<DrainOptions>().type.toBeAssignableFrom({})
    expect<Required<DrainOptions>['lameDuck']>().type.toBeAssignableFrom({})
  })

  test('give onReport the report', () => {
    const onReport: Required<DrainOptions>['onReport'] = report => {
      expect(report).type.toBe<DrainReport>()
    }
    expect(onReport).type.toBe<(report: DrainReport) => void | Promise<void>>()
  })
})

describe('app.drain', () => {
  test('is on every instance', () => {
    expect<FastifyInstance['drain']>().type.toBe<Drain>()
    expect(app.drain).type.toBe<Drain>()
  })

  test('has a read-only state', () => {
    expect(app.drain.state).type.toBe<'starting' | 'serving' | 'draining' | 'closing' | 'closed'>()
    expect<Pick<Drain, 'state' | 'signal'>>().type.toBe<{ readonly state: Drain['state'], readonly signal: AbortSignal }>()
    expect(app.drain.remaining()).type.toBe<number>()
  })

  test('track() returns the promise as it was given', () => {
    expect(app.drain.track('mail', Promise.resolve(7))).type.toBe<Promise<number>>()
    expect(app.drain.track('mail', Promise.resolve({ sent: true }))).type.toBe<Promise<{ sent: boolean }>>()
    expect(app.drain.track).type.not.toBeCallableWith('mail', 7)
    expect(app.drain.track).type.not.toBeCallableWith('mail', undefined)
    expect(app.drain.track).type.not.toBeCallableWith(Promise.resolve(7))
  })

  test('on() passes the stop to its hook and returns the function that removes it', () => {
    const remove = app.drain.on('closing', stop => {
      expect(stop).type.toBe<DrainHookContext>()
      expect(stop.phase).type.toBe<'draining' | 'closing'>()
      expect(stop.reason).type.toBe<string>()
      expect(stop.signal).type.toBe<AbortSignal>()
      expect(stop.remaining()).type.toBe<number>()
    }, { name: 'deregister', timeout: 1_000 })
    expect(remove).type.toBe<() => void>()
    expect(app.drain.on).type.toBeCallableWith('draining', async () => {})
    expect(app.drain.on).type.not.toBeCallableWith('closed', () => {})
    expect(app.drain.on).type.not.toBeCallableWith('draining', () => {}, { timeout: '1s' })
  })

  test('start() and report() return the report', () => {
    expect(app.drain.start('operator')).type.toBe<Promise<DrainReport>>()
    expect(app.drain.start).type.not.toBeCallableWith()
    expect(app.drain.report()).type.toBe<DrainReport>()
  })
})

describe('a route', () => {
  test('is served or refused while closing', () => {
    expect(app.get).type.toBeCallableWith('/', { config: { drain: 'serve' } }, async () => ({}))
    expect(app.get).type.toBeCallableWith('/', { config: { drain: 'refuse' } }, async () => ({}))
    expect(app.get).type.not.toBeCallableWith('/', { config: { drain: 'reject' } }, async () => ({}))
    expect(app.get).type.not.toBeCallableWith('/', { config: { drain: true } }, async () => ({}))
  })
})

describe('the report', () => {
  test('names its fields', () => {
    expect<DrainReport['state']>().type.toBe<Drain['state']>()
    expect<DrainReport['reason']>().type.toBe<string | null>()
    expect<DrainReport['exitCode']>().type.toBe<0 | 1 | 20 | 21 | 22 | null>()
    expect<DrainReport['remaining']>().type.toBe<number | null>()
    expect<DrainReport['phases']>().type.toBe<Record<'draining' | 'closing' | 'aborted' | 'closed', number | null>>()
    expect<DrainReport['requests']['abandoned']>().type.toBe<{ count: number, ids: string[] }>()
    expect<keyof DrainReport['requests']>().type.toBe<'inFlight' | 'atStart' | 'completed' | 'stalled' | 'refused' | 'unstarted' | 'abandoned' | 'pending'>()
    expect<DrainReport['requests']['stalled']>().type.toBe<{ count: number, ids: string[] }>()
    expect<DrainReport['requests']['pending'][number]['phase']>().type.toBe<'waiting' | 'handler' | 'response'>()
    expect<DrainReport['tracked']['failed'][number]>().type.toBe<{ label: string, error: string }>()
    expect<DrainReport['connections']['closed']>().type.toBe<Record<'normally' | 'idle' | 'unused' | 'incomplete' | 'stalled' | 'upgraded' | 'aborted', number>>()
    expect<DrainReport['resources']>().type.toBe<Record<string, number> | null>()
    expect<DrainReport['hooks'][number]['outcome']>().type.toBe<'running' | 'done' | 'failed' | 'timed-out'>()
  })

  test('contains no any, nor does any other export', () => {
    expect<PropertiesOfAny<DrainReport>>().type.toBe<never>()
    expect<PropertiesOfAny<DrainOptions>>().type.toBe<never>()
    expect<PropertiesOfAny<Drain>>().type.toBe<never>()
    expect<PropertiesOfAny<{ deep: { down: () => Promise<ReturnType<typeof JSON.parse>[]> } }>>().type.toBe<'down'>()
  })
})

/** The properties, at any depth, whose type is `any`. */
type PropertiesOfAny<T, Property = never> =
  0 extends 1 & T ? Property
    : T extends AbortSignal ? never
      : T extends (...args: infer Args) => infer Result ? PropertiesOfAny<Args[number] | Result, Property>
        : T extends PromiseLike<infer Inner> | ReadonlyArray<infer Inner> ? PropertiesOfAny<Inner, Property>
          : T extends object ? { [Key in keyof T]-?: PropertiesOfAny<T[Key], Key> }[keyof T]
            : never
