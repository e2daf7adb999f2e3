import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { inProduction, node, secret } from '../../proof/order-service.ts'
import { subject } from './figures.ts'
import type { Command } from '../../verify/target.ts'

const run = promisify(execFile)

/** What a contestant's process needs to know. */
export interface Place {
  readonly databaseUrl: string
  readonly port: number
  readonly opsPort: number
  /** How many connections it will get. */
  readonly clients: number
  /** Connections of a peer's pool, if it is not to have its usual number. */
  readonly pool: number | undefined
  /** The folder of the whole contest, with the built programs. */
  readonly directory: string
}

export interface Contestant {
  readonly name: string
  readonly says: string
  /** Builds what the contestant needs. @throws Missing */
  readonly prepare?: (directory: string) => Promise<void>
  /** A service that takes orders over HTTP, or a script for pgbench. */
  readonly takes: { readonly http: (place: Place) => Command, readonly stores: boolean } | { readonly pgbench: string }
}

/** What the contestant needs is not on this machine. */
export class Missing extends Error {}

const programs = join(import.meta.dirname, 'contestants')
const goPath = '/usr/share/gocode'

/** The service of this repository. */
export const orderService: Contestant = {
  name: subject,
  says: 'the whole service, as in production with default settings',
  takes: {
    stores: true,
    http: place => inProduction(place, {
      // Room for every client, and for the check whether it listens.
      MAX_CONNECTIONS: String(place.clients + 100),
      // Nothing is paid here, and the stored orders of a scale must stay.
      ORDER_EXPIRY_MS: '0',
      // These matter only after the last answer.
      DRAIN_MIN_MS: '0',
      DRAIN_QUIET_MS: '0',
      DRAIN_MAX_MS: '0'
    })
  }
}

export const contestants: readonly Contestant[] = [
  orderService,
  { name: 'pgbench-statement', says: 'one prepared statement, hand-tuned, no HTTP', prepare: findPgbench, takes: { pgbench: join(programs, 'pgbench-statement.sql') } },
  { name: 'pgbench-transaction', says: 'an idiomatic transaction, no HTTP', prepare: findPgbench, takes: { pgbench: join(programs, 'pgbench-transaction.sql') } },
  { name: 'pg', says: 'Fastify and pg, one prepared statement', takes: { stores: true, http: nodePeer('pg.ts', 20) } },
  {
    name: 'gin',
    says: 'Gin and pgx, an idiomatic transaction',
    prepare: buildGin,
    takes: { stores: true, http: place => ({ command: [ginIn(place.directory)], env: peerEnvironment(place, 20) }) }
  },
  { name: 'prisma', says: 'Fastify and Prisma, its interactive transaction', takes: { stores: true, http: nodePeer('prisma.ts', 10) } },
  {
    name: 'ceiling',
    says: "the service's own route with no database behind it",
    takes: {
      stores: false,
      http: ({ port }) => ({ command: [...node, join(programs, 'ceiling.ts')], env: { NODE_ENV: 'production', AUTH_JWT_SECRET: secret, PORT: String(port) } })
    }
  }
]

/** The versions of the programs beside Node and Postgres; missing programs are left out. */
export async function versions (): Promise<Record<string, string>> {
  const pgbench = await run('pgbench', ['--version']).catch(() => undefined)
  const go = await run('go', ['version']).catch(() => undefined)
  const libraries = await run('dpkg-query', ['--show', ...goPackages]).catch(() => undefined)
  return {
    ...pgbench === undefined ? {} : { pgbench: pgbench.stdout.trim() },
    ...go === undefined ? {} : { go: go.stdout.trim() },
    ...libraries === undefined ? {} : { 'go packages': libraries.stdout.trim().replaceAll('\t', ' ').replaceAll('\n', ', ') }
  }
}

/** @param usualPool the best of 10, 20 and 40 connections at 256 clients, in a few runs that other work disturbed */
function nodePeer (program: string, usualPool: number) {
  return (place: Place): Command => ({ command: [...node, join(programs, program)], env: { NODE_ENV: 'production', ...peerEnvironment(place, usualPool) } })
}

function peerEnvironment ({ databaseUrl, port, pool }: Place, usualPool: number): Record<string, string> {
  return { DATABASE_URL: databaseUrl, PORT: String(port), POOL: String(pool ?? usualPool) }
}

async function findPgbench (): Promise<void> {
  await run('pgbench', ['--version']).catch(() => { throw new Missing('pgbench is not installed: apt-get install --no-install-recommends postgresql-15 postgresql-client-common') })
}

const goPackages = ['golang-go', 'golang-github-gin-gonic-gin-dev', 'golang-github-jackc-pgx-v4-dev']

function ginIn (directory: string): string {
  return join(directory, 'gin')
}

/** Builds against Debian's packages, which are a GOPATH, so that nothing is downloaded. */
async function buildGin (directory: string): Promise<void> {
  const sources = ['github.com/gin-gonic/gin', 'github.com/jackc/pgx/v4'].map(name => join(goPath, 'src', name))
  const go = await run('go', ['version']).catch(() => undefined)
  if (go === undefined || !sources.every(existsSync)) throw new Missing(`Go, Gin or pgx is not installed: apt-get install --no-install-recommends ${goPackages.join(' ')}`)
  await run('go', ['build', '-o', ginIn(directory), join(programs, 'gin/main.go')], { env: { ...process.env, GO111MODULE: 'off', GOFLAGS: '', GOPATH: goPath } })
}
