import { ask, jsonOf, listOf, part, textOf } from './http.ts'
import { SourceError, watchMs, type Place, type Snapshot, type Source } from './source.ts'

/**
 * Consul's KV store: https://developer.hashicorp.com/consul/api-docs/kv, with blocking queries:
 * https://developer.hashicorp.com/consul/api-docs/features/blocking. The token's policy should allow reading only this prefix.
 */
export function consulSource ({ name, origin, path, token }: Place): Source {
  const prefix = `${path}/`

  async function query (wait: string, signal: AbortSignal): Promise<Snapshot> {
    const url = `${origin}/v1/kv/${prefix.split('/').map(encodeURIComponent).join('/')}?recurse=true${wait}`
    const response = await ask({ method: 'GET', url, headers: token === undefined ? {} : { 'x-consul-token': token }, signal })
    const answer = await textOf(response, signal)
    // Consul answers 404 if there is no key.
    if (response.statusCode !== 200 && response.statusCode !== 404) throw new SourceError(`it answered ${response.statusCode}`)
    const index = response.headers['x-consul-index']
    const values: Record<string, string> = {}
    let changedAt = 0
    for (const pair of response.statusCode === 404 ? [] : listOf(jsonOf(answer))) {
      const setting = String(part(pair, 'Key')).slice(prefix.length)
      // The key of the folder itself.
      if (setting === '') continue
      const value = part(pair, 'Value')
      values[setting] = typeof value === 'string' ? Buffer.from(value, 'base64').toString() : ''
      changedAt = Math.max(changedAt, Number(part(pair, 'ModifyIndex') ?? 0))
    }
    return { values, version: `ModifyIndex ${changedAt}`, ...typeof index === 'string' && { cursor: index } }
  }

  return {
    name,
    read: async signal => await query('', signal),
    async next ({ cursor = '0' }, signal) {
      // Consul adds up to a sixteenth of the wait.
      const waited = AbortSignal.any([signal, AbortSignal.timeout(watchMs * 1.25)])
      const snapshot = await query(`&index=${cursor}&wait=${watchMs / 1_000}s`, waited)
      // After a restore of Consul the index may go back; then start from 0: https://developer.hashicorp.com/consul/api-docs/features/blocking#implementation-details
      return Number(snapshot.cursor ?? 0) < Number(cursor) ? { ...snapshot, cursor: '0' } : snapshot
    }
  }
}
