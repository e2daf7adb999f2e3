import { BlockList, isIP } from 'node:net'
import type { IncomingMessage } from 'node:http'

/** The length of the network's prefix that one client may have to itself (RFC 6177): any address of it costs nothing. */
const ownPrefixIpv6 = 64

/** The proxies whose word is taken for who the client is. */
export class TrustedProxies {
  readonly #list = new BlockList()
  readonly #isEmpty: boolean

  /** @param networks addresses and CIDRs, which `isNetwork` has found good */
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

  /** Who asks: the peer, or whom a trusted proxy names. */
  clientOf (request: Pick<IncomingMessage, 'headers' | 'socket'>): string {
    return this.namedBy(request) ?? plain(request.socket.remoteAddress ?? '')
  }

  /**
   * Whom the peer names, where it is a trusted proxy: the last one before it that no trusted proxy vouches for.
   *
   * A proxy adds one of the two headers, and may pass on the other as its client sent it. So where they name two clients, one
   * of them is made up and neither is believed: the proxy itself stands for all of these.
   */
  namedBy ({ headers, socket: { remoteAddress } }: Pick<IncomingMessage, 'headers' | 'socket'>): string | undefined {
    if (!this.trusts(remoteAddress)) return undefined
    const hops = [addressesIn([headers['x-forwarded-for'] ?? []].flat().join(',')), addressesOf(headers.forwarded ?? '')].filter(({ length }) => length > 0)
    if (hops.length === 0) return undefined
    const [client, ...others] = hops.map(addresses => this.#firstUntrusted(addresses))
    return client !== undefined && others.every(other => other === client) ? client : plain(remoteAddress ?? '')
  }

  /** @param hops addresses, from the client's to that of the last proxy but one; undefined for what is no address */
  #firstUntrusted (hops: Array<string | undefined>): string | undefined {
    const last = hops.findLast(hop => !this.trusts(hop))
    return last === undefined && !hops.includes(undefined) ? hops[0] : last
  }
}

/** An address, or a network as 10.0.0.0/8. */
export function isNetwork (text: string): boolean {
  const [, address = '', prefix = '0'] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text) ?? []
  const family = isIP(address)
  return family !== 0 && Number(prefix) <= (family === 4 ? 32 : 128)
}

/** Of whom the address is: with IPv6 a client has a whole network of them. */
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

/** An IPv4 address of a socket that listens for both. */
function plain (address: string): string {
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
}

/** Of X-Forwarded-For. */
function addressesIn (text: string): Array<string | undefined> {
  return text === '' ? [] : text.split(',').map(part => addressIn(part.trim()))
}

/** RFC 7239, section 4: `for=192.0.2.60;proto=http, for="[2001:db8::1]:4711"`. */
function addressesOf (forwarded: string): Array<string | undefined> {
  return forwarded === '' ? [] : forwarded.split(',').map(hop => addressIn(/(?:^|;)\s*for\s*=\s*"?([^";]*)"?/i.exec(hop)?.[1]?.trim() ?? ''))
}

/** Without its port, where it has one; undefined for a name, as `unknown`. */
function addressIn (text: string): string | undefined {
  const [, bracketed, ipv4] = /^(?:\[([^\]]+)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?$/.exec(text) ?? []
  const address = plain(bracketed ?? ipv4 ?? text)
  return isIP(address) === 0 ? undefined : address
}
