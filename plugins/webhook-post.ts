import { lookup, type LookupAddress, type LookupOptions } from 'node:dns'
import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import { BlockList, isIP } from 'node:net'

/**
 * Sends a POST to a URL that a customer chose. Resolves with the status, and ignores the body. It follows no redirect. Unless
 * `allowsPrivate`, it connects only to public addresses: it looks the name up once and connects to the address that it checked,
 * so that the name cannot change in between (DNS rebinding).
 */
export async function postWebhook (url: string, headers: Record<string, string>, body: string, signal: AbortSignal, allowsPrivate: boolean): Promise<number> {
  const { protocol, hostname } = new URL(url)
  // For an address, Node does not call `lookup`.
  if (!allowsPrivate && isIP(bare(hostname)) !== 0 && !isPublic(bare(hostname))) throw notPublic(hostname)
  return await new Promise((resolve, reject) => {
    const sending = (protocol === 'https:' ? requestHttps : requestHttp)(url, {
      method: 'POST',
      headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
      signal,
      // Without keep-alive, so that no connection outlives a stop.
      agent: false,
      ...!allowsPrivate && { lookup: lookupPublic }
    }, response => {
      resolve(response.statusCode ?? 0)
      response.destroy()
    })
    sending.on('error', reject)
    sending.end(body)
  })
}

/** What is wrong with a webhook's URL, as a clause; undefined: nothing. It does not look up names: `postWebhook` does. */
export function faultOfUrl (text: string, { production, allowsPrivate }: { production: boolean, allowsPrivate: boolean }): string | undefined {
  if (!URL.canParse(text)) return 'it is no URL'
  const { protocol, hostname, username, password } = new URL(text)
  if (protocol !== 'https:' && (production || protocol !== 'http:')) return production ? 'it is not https' : 'it is neither https nor http'
  if (username !== '' || password !== '') return 'it has a user or a password in it'
  if (allowsPrivate) return undefined
  if (isIP(bare(hostname)) !== 0 && !isPublic(bare(hostname))) return 'its address is not a public one'
  if (/(^|\.)localhost\.?$/i.test(hostname)) return 'its address is not a public one'
  return undefined
}

/** Whether an address is on the public Internet (IANA's registries of special-purpose addresses). */
export function isPublic (address: string): boolean {
  const family = isIP(address)
  return family === 4 ? !special4.check(address, 'ipv4') : family === 6 && !special6.check(address, 'ipv6')
}

// Two lists: a single one would treat an IPv4 address as its mapped IPv6 address.
const special4 = new BlockList()
for (const [address, prefix] of [
  ['0.0.0.0', 8], ['10.0.0.0', 8], ['100.64.0.0', 10], ['127.0.0.0', 8], ['169.254.0.0', 16], ['172.16.0.0', 12], ['192.0.0.0', 24], ['192.0.2.0', 24],
  ['192.88.99.0', 24], ['192.168.0.0', 16], ['198.18.0.0', 15], ['198.51.100.0', 24], ['203.0.113.0', 24], ['224.0.0.0', 4], ['240.0.0.0', 4]
] as const) special4.addSubnet(address, prefix, 'ipv4')
/** Only allocated addresses are public. Addresses that lead to IPv4 are not. */
const special6 = new BlockList()
for (const [address, prefix] of [['::', 3], ['4000::', 2], ['8000::', 1], ['2001::', 23], ['2001:db8::', 32], ['2002::', 16], ['3fff::', 20]] as const) special6.addSubnet(address, prefix, 'ipv6')

function lookupPublic (
  hostname: string,
  options: LookupOptions,
  callback: (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void
): void {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    const reachable = error === null ? addresses.filter(({ address }) => isPublic(address)) : []
    const [first] = reachable
    if (first === undefined) callback(error ?? notPublic(hostname), [])
    else if (options.all === true) callback(null, reachable)
    else callback(null, first.address, first.family)
  })
}

/** [::1] → ::1 */
function bare (hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1')
}

function notPublic (hostname: string): Error {
  return new Error(`${hostname} has no public address. Nothing was sent.`)
}
