import { isDeepStrictEqual } from 'node:util'
import type { CentralConfig } from '../config.ts'
import { consulSource } from './consul.ts'
import { etcdSource } from './etcd.ts'
import { filesSource } from './files.ts'
import { nacosSource } from './nacos.ts'

/** The settings that a source holds for one environment, all from the same moment. */
export interface Snapshot {
  /** By the names of the settings. */
  readonly values: Readonly<Record<string, string>>
  /** The version of the source's state, in the source's own form. */
  readonly version: string
  /** Where a watch continues. Only the source reads it. */
  readonly cursor?: string
}

/** A central place for settings. Only the prefix in its URL is read, which belongs to one environment. */
export interface Source {
  /** For messages: its URL. */
  readonly name: string
  /** @throws SourceError */
  read (signal: AbortSignal): Promise<Snapshot>
  /**
   * Waits until something may have changed, for about half a minute, and reads again.
   *
   * @throws SourceError, or the signal's reason
   */
  next (after: Snapshot, signal: AbortSignal): Promise<Snapshot>
}

/** The failure of a source, as a clause. It quotes no setting and no token. */
export class SourceError extends Error {
  override readonly name = 'SourceError'
}

/** How long a watch may last before the source is read again, in ms, because a dead connection reports nothing. */
export const watchMs = 30_000

export function openSource ({ url, token }: CentralConfig): Source {
  const { protocol, host, pathname } = new URL(url)
  const [kind = '', secure] = protocol.slice(0, -1).split('+')
  const place = { name: url, origin: `http${secure === undefined ? '' : 's'}://${host}`, path: decodeURIComponent(pathname).replace(/^\/+|\/+$/g, ''), token }
  switch (kind) {
    case 'etcd': return etcdSource(place)
    case 'consul': return consulSource(place)
    case 'nacos': return nacosSource(place)
    default: return filesSource(new URL(url))
  }
}

/** The address of a source over HTTP. */
export interface Place {
  readonly name: string
  readonly origin: string
  /** The prefix and the environment, without leading and trailing slashes. */
  readonly path: string
  readonly token: string | undefined
}

export function isSame (one: Snapshot, other: Snapshot): boolean {
  return isDeepStrictEqual(one.values, other.values)
}
