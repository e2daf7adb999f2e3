import { hash } from 'node:crypto'
import { settingsOf } from './files.ts'
import { ask, jsonOf, part, textOf } from './http.ts'
import { SourceError, watchMs, type Place, type Snapshot, type Source } from './source.ts'

/** The id of the document, which has the form of `.env`. */
export const nacosDataId = 'last-orders.env'

/** The separators of the listener's protocol: between words, and after a line. */
const word = '\x02'
const line = '\x01'

/** By default a login lasts five hours. The source logs in again long before that. */
const loginMs = 600_000

/**
 * Nacos's open API: https://nacos.io/en/docs/v2/guide/user/open-api/. nacos://host:8848/group/namespace: all settings of an
 * environment are one document, `last-orders.env` of that group in that namespace, so that they change together. The token is
 * `username:password`; the user should be allowed to read only that namespace.
 */
export function nacosSource ({ name, origin, path, token }: Place): Source {
  const parts = path.split('/')
  const namespace = parts.at(-1) ?? ''
  // The default namespace is called public, but a request leaves its name out.
  const place = { dataId: nacosDataId, group: parts.slice(0, -1).join('.') || 'DEFAULT_GROUP', tenant: namespace === 'public' ? '' : namespace }
  let login: { accessToken: string, madeAt: number } | undefined

  async function access (signal: AbortSignal): Promise<Record<string, string>> {
    if (token === undefined) return {}
    if (login === undefined || performance.now() - login.madeAt > loginMs) login = { accessToken: await logIn(token, signal), madeAt: performance.now() }
    return { accessToken: login.accessToken }
  }

  async function logIn (pair: string, signal: AbortSignal): Promise<string> {
    const [, username, password = ''] = /^([^:]+):(.*)$/s.exec(pair) ?? []
    if (username === undefined) throw new SourceError('CONFIG_TOKEN is not username:password, the form for Nacos')
    const response = await ask({ method: 'POST', url: `${origin}/nacos/v1/auth/login`, ...form({ username, password }), signal })
    const answer = await textOf(response, signal)
    if (response.statusCode !== 200) throw new SourceError(`it does not take CONFIG_TOKEN (${response.statusCode})`)
    const made = part(jsonOf(answer), 'accessToken')
    if (typeof made !== 'string') throw new SourceError('its login gave no accessToken')
    return made
  }

  async function read (signal: AbortSignal): Promise<Snapshot> {
    const query = new URLSearchParams({ ...place, ...await access(signal) })
    const response = await ask({ method: 'GET', url: `${origin}/nacos/v1/cs/configs?${query.toString()}`, signal })
    const content = await textOf(response, signal)
    if (response.statusCode === 404) return { values: {}, version: 'no document', cursor: '' }
    if (response.statusCode !== 200) {
      login = undefined
      throw new SourceError(`it answered ${response.statusCode}`)
    }
    const md5 = hash('md5', content)
    return { values: settingsOf(content), version: `md5 ${md5}`, cursor: md5 }
  }

  return {
    name,
    read,
    async next ({ cursor = '' }, signal) {
      const listened = [place.dataId, place.group, cursor, ...place.tenant === '' ? [] : [place.tenant]].join(word) + line
      const query = new URLSearchParams(await access(signal)).toString()
      const asked = form({ 'Listening-Configs': listened })
      const response = await ask({
        method: 'POST',
        url: `${origin}/nacos/v1/cs/configs/listener${query === '' ? '' : `?${query}`}`,
        headers: { ...asked.headers, 'Long-Pulling-Timeout': String(watchMs) },
        body: asked.body,
        signal: AbortSignal.any([signal, AbortSignal.timeout(watchMs * 1.25)])
      })
      // The answer names changed documents, or is empty when the time is over. In both cases the source reads again.
      await textOf(response, signal)
      if (response.statusCode !== 200) {
        login = undefined
        throw new SourceError(`it answered ${response.statusCode}`)
      }
      return await read(signal)
    }
  }
}

function form (fields: Record<string, string>): { headers: Record<string, string>, body: string } {
  return { headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: new URLSearchParams(fields).toString() }
}
