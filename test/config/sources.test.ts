import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { loadConfig } from '../../config.ts'
import { openSource, SourceError, type Snapshot, type Source } from '../../config/source.ts'
import { etcdMissing, startEtcd } from '../etcd.ts'
import { startConsulKv } from './consul-kv.ts'
import { MountedFolder } from './mounted.ts'
import { startNacos } from './nacos.ts'

const never = new AbortController().signal

/** One kind of source with two environments in it. */
interface Kind {
  name: string
  skip?: string | false
  /** Returns the URL of each environment; `write` sets all settings of one. */
  start (t: Test): Promise<{ urls: Record<Place, string>, token?: string, write (place: Place, values: Record<string, string>): void | Promise<void> }>
}
type Place = 'staging' | 'production'

const envOf = (values: Record<string, string>): string => Object.entries(values).map(([name, value]) => `${name}=${value}\n`).join('')

const kinds: Kind[] = [
  {
    name: 'etcd',
    skip: etcdMissing,
    async start (t) {
      const etcd = await startEtcd(t)
      const written = new Map<Place, string[]>()
      return {
        urls: { staging: `etcd://${etcd.host}/last-orders/staging`, production: `etcd://${etcd.host}/last-orders/production` },
        async write (place, values) {
          const encode = (text: string): string => Buffer.from(text).toString('base64')
          const keyOf = (name: string): string => encode(`/last-orders/${place}/${name}`)
          const gone = (written.get(place) ?? []).filter(name => !(name in values))
          written.set(place, Object.keys(values))
          await etcd.post('kv/txn', {
            success: [
              ...Object.entries(values).map(([name, value]) => ({ request_put: { key: keyOf(name), value: encode(value) } })),
              ...gone.map(name => ({ request_delete_range: { key: keyOf(name) } }))
            ]
          })
        }
      }
    }
  },
  {
    name: 'a stand-in for Consul',
    async start (t) {
      const consul = await startConsulKv(t)
      const written = new Map<Place, string[]>()
      return {
        urls: { staging: `consul://${consul.host}/last-orders/staging`, production: `consul://${consul.host}/last-orders/production` },
        token: consul.token,
        write (place, values) {
          for (const name of written.get(place) ?? []) if (!(name in values)) consul.delete(`last-orders/${place}/${name}`)
          for (const [name, value] of Object.entries(values)) consul.put(`last-orders/${place}/${name}`, value)
          written.set(place, Object.keys(values))
        }
      }
    }
  },
  {
    name: 'a stand-in for Nacos',
    async start (t) {
      const nacos = await startNacos(t)
      return {
        urls: { staging: `nacos://${nacos.host}/last-orders/staging`, production: `nacos://${nacos.host}/last-orders/production` },
        token: nacos.token,
        write: (tenant, values) => nacos.publish({ tenant, group: 'last-orders', dataId: 'last-orders.env' }, envOf(values))
      }
    }
  },
  {
    name: 'a mounted folder',
    async start (t) {
      const directory = t.testdir()
      const folders = new Map<Place, MountedFolder>()
      return {
        urls: { staging: pathToFileURL(join(directory, 'staging')).href, production: pathToFileURL(join(directory, 'production')).href },
        write (place, values) {
          const folder = folders.get(place)
          if (folder === undefined) folders.set(place, new MountedFolder(join(directory, place), values))
          else folder.write(values)
        }
      }
    }
  },
  {
    name: 'one file',
    async start (t) {
      const directory = t.testdir()
      return {
        urls: { staging: pathToFileURL(join(directory, 'staging.env')).href, production: pathToFileURL(join(directory, 'production.env')).href },
        write: (place, values) => writeFileSync(join(directory, `${place}.env`), envOf(values))
      }
    }
  }
]

for (const { name, skip = false, start } of kinds) {
  t.test(`${name}: a source reads the settings below its prefix, sees their changes, and never sees another environment`, { skip }, async t => {
    const { urls, token, write } = await start(t)
    const [staging, production] = [sourceAt(urls.staging, token), sourceAt(urls.production, token)]
    await write('staging', { LOG_LEVEL: 'warn', RATE_LIMIT: '60' })
    await write('production', { RATE_LIMIT: '6000' })
    const first = await staging.read(never)
    t.same(first.values, { LOG_LEVEL: 'warn', RATE_LIMIT: '60' })
    const untouched = await production.read(never)
    t.same(untouched.values, { RATE_LIMIT: '6000' })

    const seen = until(staging, first, ({ values }) => values.LOG_LEVEL === undefined)
    const other = new AbortController()
    const changes: Snapshot[] = []
    const following = follow(production, untouched, other.signal, snapshot => changes.push(snapshot))
    await write('staging', { RATE_LIMIT: '61' })
    t.same((await seen).values, { RATE_LIMIT: '61' }, 'one setting was changed, and one was removed')
    other.abort()
    await following
    t.same(changes.filter(({ values }) => values.RATE_LIMIT !== '6000'), [])
  })

  t.test(`${name}: a source does not miss a change between two requests`, { skip }, async t => {
    const { urls, token, write } = await start(t)
    const source = sourceAt(urls.staging, token)
    await write('staging', { RATE_LIMIT: '1' })
    const before = await source.read(never)
    await write('staging', { RATE_LIMIT: '2' })
    t.same((await until(source, before, ({ values }) => values.RATE_LIMIT === '2')).values, { RATE_LIMIT: '2' })
  })

  t.test(`${name}: an aborted request for changes ends at once`, { skip }, async t => {
    const { urls, token, write } = await start(t)
    await write('staging', { RATE_LIMIT: '1' })
    const source = sourceAt(urls.staging, token)
    const giveUp = new AbortController()
    const asked = follow(source, await source.read(never), giveUp.signal, () => {})
    giveUp.abort()
    await asked
    t.notOk(process.getActiveResourcesInfo().includes('FSEventWrap'))
  })
}

t.test('a source that is unreachable or refuses the token is reported, without the token', async t => {
  const consul = await startConsulKv(t)
  const nacos = await startNacos(t)
  const cases: Array<[url: string, token: string | undefined, says: RegExp]> = [
    ['etcd://127.0.0.1:1/last-orders/staging', undefined, /cannot be reached \(ECONNREFUSED\)/],
    ['consul://127.0.0.1:1/last-orders/staging', undefined, /cannot be reached \(ECONNREFUSED\)/],
    [`consul://${consul.host}/last-orders/staging`, 'hunter2', /answered 403/],
    [`nacos://${nacos.host}/last-orders/staging`, 'orders:hunter2', /does not take CONFIG_TOKEN \(403\)/],
    [`nacos://${nacos.host}/last-orders/staging`, 'hunter2', /not username:password/],
    ['etcd://127.0.0.1:1/last-orders/staging', 'hunter2', /not name:password/],
    ['file:///no/such/folder', undefined, /cannot be read \(ENOENT\)/]
  ]
  for (const [url, token, says] of cases) {
    const error: unknown = await sourceAt(url, token).read(never).catch((error: unknown) => error)
    t.type(error, SourceError)
    t.match(String(error), says, url)
    t.notMatch(String(error), 'hunter2')
  }
})

t.test('etcd: a role that may read one prefix reads that one and no other', { skip: etcdMissing }, async t => {
  const etcd = await startEtcd(t)
  await etcd.putAll({ '/last-orders/staging/RATE_LIMIT': '60', '/last-orders/production/RATE_LIMIT': '6000' })
  const encode = (text: string): string => Buffer.from(text).toString('base64')
  await etcd.post('auth/user/add', { name: 'root', password: 'root' })
  await etcd.post('auth/user/grant', { user: 'root', role: 'root' })
  await etcd.post('auth/user/add', { name: 'staging', password: 'a:password' })
  await etcd.post('auth/role/add', { name: 'staging' })
  for (const prefix of ['/last-orders/staging', 'last-orders/staging']) {
    await etcd.post('auth/role/grant', { name: 'staging', perm: { permType: 'READ', key: encode(`${prefix}/`), range_end: encode(`${prefix}0`) } })
  }
  await etcd.post('auth/user/grant', { user: 'staging', role: 'staging' })
  await etcd.post('auth/enable', {})
  const token = 'staging:a:password'
  t.same((await sourceAt(`etcd://${etcd.host}/last-orders/staging`, token).read(never)).values, { RATE_LIMIT: '60' })
  await t.rejects(sourceAt(`etcd://${etcd.host}/last-orders/production`, token).read(never), /permission denied/)
  await t.rejects(sourceAt(`etcd://${etcd.host}/last-orders/staging`, undefined).read(never), SourceError)
})

t.test('etcd: a watch that begins before a compaction continues from the present', { skip: etcdMissing }, async t => {
  const etcd = await startEtcd(t)
  const source = sourceAt(`etcd://${etcd.host}/last-orders/staging`, undefined)
  await etcd.put('last-orders/staging/RATE_LIMIT', '1')
  const before = await source.read(never)
  for (let limit = 2; limit < 6; limit++) await etcd.put('last-orders/staging/RATE_LIMIT', String(limit))
  const { cursor } = await source.read(never)
  await etcd.post('kv/compaction', { revision: cursor })
  t.same((await until(source, before, ({ values }) => values.RATE_LIMIT === '5')).values, { RATE_LIMIT: '5' })
})

t.test('etcd: a setting below both forms of the prefix is a fault, because neither has precedence', { skip: etcdMissing }, async t => {
  const etcd = await startEtcd(t)
  await etcd.putAll({ '/last-orders/staging/RATE_LIMIT': '60', 'last-orders/staging/RATE_LIMIT': '61' })
  await t.rejects(sourceAt(`etcd://${etcd.host}/last-orders/staging`, undefined).read(never), /RATE_LIMIT twice/)
})

t.test('Consul: a source begins anew when the index goes back, as after a restore', async t => {
  const consul = await startConsulKv(t)
  consul.put('last-orders/staging/RATE_LIMIT', '60')
  const source = sourceAt(`consul://${consul.host}/last-orders/staging`, consul.token)
  const before = await source.read(never)
  const next = source.next(before, never)
  while (consul.queries.length < 2) await new Promise(resolve => setImmediate(resolve))
  consul.resetIndex()
  t.equal((await next).cursor, '0')
})

t.test('a mounted folder gives only the files that are named as settings', async t => {
  const directory = t.testdir()
  const folder = new MountedFolder(join(directory, 'mounted'), { RATE_LIMIT: '60\n', 'readme.txt': 'hello' })
  t.same((await sourceAt(pathToFileURL(folder.path).href, undefined).read(never)).values, { RATE_LIMIT: '60' })
})

function sourceAt (url: string, token: string | undefined): Source {
  const { central } = loadConfig({ CONFIG_URL: url, CONFIG_TOKEN: token })
  if (central === undefined) throw new Error('There is no central source.')
  return openSource(central)
}

async function until (source: Source, after: Snapshot, isTrue: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  for (let last = after; ;) {
    last = await source.next(last, never)
    if (isTrue(last)) return last
  }
}

/** Follows the source until the signal; an error after that is the end. */
async function follow (source: Source, after: Snapshot, signal: AbortSignal, see: (snapshot: Snapshot) => void): Promise<void> {
  for (let last = after; !signal.aborted;) {
    try {
      see(last = await source.next(last, signal))
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }
}
