import { isDeepStrictEqual } from 'node:util'
import type { CentralConfig } from '../config.ts'
import { consulSource } from './consul.ts'
import { etcdSource } from './etcd.ts'
import { filesSource } from './files.ts'
import { nacosSource } from './nacos.ts'

/** What a source holds for one environment, all of one moment. */
export interface Snapshot {
  /** By the names of the settings. */
  readonly values: Readonly<Record<string, string>>
  /** Which state of the source this is, in the source's own words. */
  readonly version: string
  /** From where the source says what came later; its own affair. */
  readonly cursor?: string
}

/** A central place for settings. The prefix in its URL is one environment's, and nothing else of the source is read. */
export interface Source {
  /** For messages: its URL. */
  readonly name: string
  /** @throws SourceError */
  read (signal: AbortSignal): Promise<Snapshot>
  /**
   * Waits until something may have changed, for half a minute or so, and reads again.
   *
   * @throws SourceError, or the signal's reason
   */
  next (after: Snapshot, signal: AbortSignal): Promise<Snapshot>
}

/** What a source did not do, as a clause. Holds no value of a setting, and no token. */
export class SourceError extends Error {
  override readonly name = 'SourceError'
}

/** How long a watch may last before the source is read again, in ms: a connection that is dead says nothing. */
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

/** Of a source that is asked over HTTP. */
export interface Place {
  readonly name: string
  readonly origin: string
  /** The prefix and the environment, without a slash before and behind. */
  readonly path: string
  readonly token: string | undefined
}

export function isSame (one: Snapshot, other: Snapshot): boolean {
  return isDeepStrictEqual(one.values, other.values)
}
