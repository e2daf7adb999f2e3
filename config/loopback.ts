import { BlockList, isIP } from 'node:net'

/** Also true for the form that a dual-stack socket gives to IPv4, ::ffff:127.0.0.1. */
export function isLoopback (address: string): boolean {
  const family = isIP(address)
  if (family === 0) return false
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  return loopback.check(address, family === 6 ? 'ipv6' : 'ipv4')
}

/** Whether only this machine can reach a server that listens on this host. */
export function isLoopbackHost (host: string): boolean {
  return host === 'localhost' || isLoopback(host)
}
