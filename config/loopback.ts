import { BlockList, isIP } from 'node:net'

/** Also in the form that a socket for both families gives to IPv4, ::ffff:127.0.0.1. */
export function isLoopback (address: string): boolean {
  const family = isIP(address)
  if (family === 0) return false
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  return loopback.check(address, family === 6 ? 'ipv6' : 'ipv4')
}

/** Whether what listens there is reached from this machine alone. */
export function isLoopbackHost (host: string): boolean {
  return host === 'localhost' || isLoopback(host)
}
