import { BlockList, isIP } from 'node:net'
import type { IncomingMessage } from 'node:http'

/** The prefix length of the network that one client may own (RFC 6177): it can use any address in it for free. */
const ownPrefixIpv6 = 64

/** The proxies that may name the client. */
export class TrustedProxies {
  readonly #list = new BlockList()
  readonly #isEmpty: boolean

  /** @param networks addresses and CIDRs that pass `isNetwork` */
  constructor (networks: readonly string[]) {
    this.#isEmpty = networks.length === 0
    for (const network of networks) {
      const [address = '', prefix] = network.split('/')
      const family = familyOf(address)
      if (prefix === undefined) this.#list.addAddress(address, family)
      else this.#list.addSubnet(address, Number(prefix), family)
    }
  }

  trusts (address: string | undefined): boolean {
    return !this.#isEmpty && address !== undefined && isIP(address) !== 0 && this.#list.check(address, familyOf(address))
  }

  /** The client that a trusted proxy names, or else the peer. */
  clientOf (request: Pick<IncomingMessage, 'headers' | 'socket'>): string {
    return this.namedBy(request) ?? plain(request.socket.remoteAddress ?? '')
  }

  /**
   * The client, if the peer is a trusted proxy: the last address before it that is not a trusted proxy.
   *
   * A proxy adds one of the two headers and may pass on the other as its client sent it. If they name two clients, one is
   * forged and neither is believed: the proxy itself counts as the client of such requests.
   */
  namedBy ({ headers, socket: { remoteAddress } }: Pick<IncomingMessage, 'headers' | 'socket'>): string | undefined {
    if (!this.trusts(remoteAddress)) return undefined
    const hops = [addressesIn([headers['x-forwarded-for'] ?? []].flat().join(',')), addressesOf(headers.forwarded ?? '')].filter(({ length }) => length > 0)
    if (hops.length === 0) return undefined
    const [client, ...others] = hops.map(addresses => this.#firstUntrusted(addresses))
    return client !== undefined && others.every(other => other === client) ? client : plain(remoteAddress ?? '')
  }

  /** @param hops addresses from the client's to the last but one proxy's; undefined: not an address */
  #firstUntrusted (hops: Array<string | undefined>): string | undefined {
    const last = hops.findLast(hop => !this.trusts(hop))
    return last === undefined && !hops.includes(undefined) ? hops[0] : last
  }
}

/** An address, or a network such as 10.0.0.0/8. */
export function isNetwork (text: string): boolean {
  const [, address = '', prefix = '0'] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = isIP(address)
  return family !== 0 && Number(prefix) <= (family === 4 ? 32 : 128)
}

/** What identifies the client behind an address: with IPv6, its network. */
export function holderOf (address: string): string {
  if (isIP(address) !== 6) return address
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::')
  const before = head.split(':')
  const missing = tail === undefined ? 0 : 8 - before.length - tail.split(':').length
  const groups = [...before, ...Array<string>(Math.max(0, missing)).fill('0'), ...tail?.split(':') ?? []]
  return `${groups.slice(0, ownPrefixIpv6 / 16).map(group => parseInt(group || '0', 16).toString(16)).join(':')}::/${ownPrefixIpv6}`
}

function familyOf (address: string): 'ipv4' | 'ipv6' {
  return isIP(address) === 4 ? 'ipv4' : 'ipv6'
}

/** A socket that listens for IPv6 and IPv4 gives an IPv4 address as ::ffff:192.0.2.1. */
function plain (address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
}

/** X-Forwarded-For. */
function addressesIn (text: string): Array<string | undefined> {
  return text === '' ? [] : text.split(',').map(part => addressIn(part.trim()))
}

/** RFC 7239, section 4: `for=192.0.2.60;proto=http, for="[2001:db8::1]:4711"`. */
function addressesOf (forwarded: string): Array<string | undefined> {
  return forwarded === '' ? [] : forwarded.split(',').map(hop => addressIn(/(?:^|;)\s*for\s*=\s*"?([^";]*)"?/i.exec(hop)?.[1]?.trim() ?? ''))
}

/** Without a port; undefined for a name such as `unknown`. */
function addressIn (text: string): string | undefined {
  const [, bracketed, ipv4] = /^(?:\[([^\]]+)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?$/.exec(text) ?? []
  const address = plain(bracketed ?? ipv4 ?? text)
  return isIP(address) === 0 ? undefined : address
}
