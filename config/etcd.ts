import { ask, jsonOf, listOf, part, textOf } from './http.ts'
import { SourceError, watchMs, type Place, type Snapshot, type Source } from './source.ts'

/**
 * etcd's JSON gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/. The token is `name:password`, which etcd exchanges
 * for a token of its own. The user's role should allow reading only this prefix.
 */
export function etcdSource ({ name, origin, path, token }: Place): Source {
  // Keys usually begin with a slash, but need not.
  const ranges = [`/${path}/`, `${path}/`].map(prefix => ({ key: base64(prefix), range_end: base64(endOf(prefix)) }))
  const prefixes = [`/${path}/`, `${path}/`]
  let session: string | undefined

  async function post (endpoint: string, body: object, signal: AbortSignal) {
    session ??= token === undefined ? undefined : await logIn(token, signal)
    const response = await ask({ method: 'POST', url: `${origin}/v3/${endpoint}`, headers: { 'content-type': 'application/json', ...session !== undefined && { authorization: session } }, body: JSON.stringify(body), signal })
    if (response.statusCode === 200) return response
    // etcd's tokens last for five minutes; the next attempt logs in again.
    session = undefined
    const said = part(jsonOf(await textOf(response, signal)), 'error')
    throw new SourceError(`it answered ${response.statusCode}${typeof said === 'string' ? ` (${said})` : ''}`)
  }

  async function logIn (pair: string, signal: AbortSignal): Promise<string> {
    const [, user, password] = /^([^:]+):(.*)$/s.exec(pair) ?? []
    if (user === undefined) throw new SourceError('CONFIG_TOKEN is not name:password, the form for etcd')
    const response = await ask({ method: 'POST', url: `${origin}/v3/auth/authenticate`, headers: { 'content-type': 'application/json' }, body: JSON.stringify({ name: user, password }), signal })
    const made = part(jsonOf(await textOf(response, signal)), 'token')
    if (response.statusCode !== 200 || typeof made !== 'string') throw new SourceError(`it does not take CONFIG_TOKEN (${response.statusCode})`)
    return made
  }

  async function read (signal: AbortSignal): Promise<Snapshot> {
    // One transaction, so that both ranges have the same revision.
    const answer = jsonOf(await textOf(await post('kv/txn', { success: ranges.map(range => ({ request_range: range })) }, signal), signal))
    const values: Record<string, string> = {}
    let changedAt = 0
    for (const response of listOf(part(answer, 'responses'))) {
      for (const pair of listOf(part(response, 'response_range', 'kvs'))) {
        const key = text(part(pair, 'key'))
        const setting = key.slice(prefixes.find(prefix => key.startsWith(prefix))?.length ?? 0)
        if (setting in values) throw new SourceError(`it holds ${setting} twice, below ${prefixes.join(' and below ')}`)
        values[setting] = text(part(pair, 'value'))
        changedAt = Math.max(changedAt, Number(part(pair, 'mod_revision') ?? 0))
      }
    }
    return { values, version: `revision ${changedAt}`, cursor: String(part(answer, 'header', 'revision') ?? 0) }
  }

  return {
    name,
    read,
    async next (after, signal) {
      const watching = AbortSignal.any([signal, AbortSignal.timeout(watchMs)])
      const ended = new AbortController()
      const watches = ranges.map(async range => {
        const create = { create_request: { ...range, start_revision: String(Number(after.cursor ?? 0) + 1) } }
        await event(await post('watch', create, AbortSignal.any([watching, ended.signal])))
      })
      try {
        await Promise.race(watches)
      } catch (error) {
        // The watch has ended without a change.
        if (!watching.aborted || signal.aborted) throw error
      } finally {
        ended.abort()
        await Promise.allSettled(watches)
      }
      return await read(signal)
    }
  }
}

/** Resolves at the first line after the one that confirms the watch. Also resolves when the watch ends, for example because etcd compacted its revision. */
async function event (response: AsyncIterable<unknown>): Promise<void> {
  let line = ''
  for await (const chunk of response) {
    const lines = (line + String(chunk)).split('\n')
    line = lines.pop() ?? ''
    for (const one of lines) if (part(jsonOf(one), 'result', 'created') !== true) return
  }
}

function base64 (key: string): string {
  return Buffer.from(key).toString('base64')
}

function text (value: unknown): string {
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString() : ''
}

/** The first key that does not begin with the prefix, which ends with a slash. */
function endOf (prefix: string): string {
  return `${prefix.slice(0, -1)}0`
}
