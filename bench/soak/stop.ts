import { once } from 'node:events'
import { mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startService } from '../service.ts'
import { Client } from './client.ts'

const clientCount = 40
/** The shortest and the longest load before the signal, ms. */
const earliest = 200
const latest = 700
/** ms after the signal; the service's own deadline is 5 s. */
const hangMs = 6_000

/** Counts of requests, unless a comment says otherwise. */
export interface Outcome {
  requests: number
  answered: number
  /** Refused with a 503. */
  refused: number
  /** Clients that hung up. */
  left: number
  /** The connection was lost before the service had accepted it. */
  resetUnaccepted: number
  /** The connection had been accepted, and was lost before the service began the request. */
  resetUnbegun: number
  /** Breach: the request began, and its client, which stayed, got no answer. */
  unanswered: number
  /** Breach: the request began and never committed: the resource was closed, or the process ended before. */
  uncommitted: number
  /** Breach: the answer said done, or not begun, and that was untrue. */
  untrue: number
  /** Breach: stops with another exit code than 0. */
  failedExits: number
  /** Breach: stops that had to be killed. */
  hangs: number
}

export interface Stop {
  readonly outcome: Outcome
  /** The breaches, one line each. */
  readonly breaches: readonly string[]
}

/** Starts the service, loads it, sends SIGTERM at a moment that `next` decides, and judges by the records of both sides. */
export async function stopUnderLoad (subject: string, next: () => number): Promise<Stop> {
  const folder = await mkdtemp(join(tmpdir(), 'soak-'))
  try {
    const path = join(folder, 'journal')
    const journal = await open(path, 'a')
    const { child, port } = await startService(new URL('service.ts', import.meta.url), [subject], { journal: journal.fd })
    await journal.close()
    const exited = once(child, 'exit') as Promise<[number | null]>

    const clients = Array.from({ length: clientCount }, (_, index) => new Client(String(index), port, next))
    const running = Promise.all(clients.map(client => client.run()))
    await sleep(earliest + next() * (latest - earliest))
    child.kill('SIGTERM')
    const hang = setTimeout(() => child.kill('SIGKILL'), hangMs)
    const [code] = await exited
    clearTimeout(hang)
    for (const client of clients) client.serviceGone()
    await running
    return judge(clients, await readJournal(path), code)
  } finally {
    await rm(folder, { recursive: true })
  }
}

type Journal = Record<'accepted' | 'begun' | 'committed', Set<string>>

async function readJournal (path: string): Promise<Journal> {
  const journal: Journal = { accepted: new Set(), begun: new Set(), committed: new Set() }
  for (const line of (await readFile(path, 'utf8')).split('\n')) {
    const [what = '', about = ''] = line.split(' ')
    if (what in journal) journal[what as keyof Journal].add(about)
  }
  return journal
}

function judge (clients: readonly Client[], { accepted, begun, committed }: Journal, code: number | null): Stop {
  const outcome: Outcome = { ...nothing }
  const breaches: string[] = []
  const broken = (kind: 'unanswered' | 'uncommitted' | 'untrue' | 'failedExits' | 'hangs', what: string): void => {
    outcome[kind]++
    breaches.push(what)
  }
  for (const id of begun) if (!committed.has(id)) broken('uncommitted', `${id} was begun and not committed`)
  for (const { id, outcome: seen, port } of clients.flatMap(({ attempts }) => attempts)) {
    if (seen === 'not connected') continue
    outcome.requests++
    if (seen === 'answered') {
      outcome.answered++
      if (!committed.has(id)) broken('untrue', `${id} was answered as committed, and was not`)
    } else if (seen === 'refused') {
      outcome.refused++
      if (begun.has(id)) broken('untrue', `${id} was refused, and had begun`)
    } else if (seen === 'left') {
      outcome.left++
    } else if (begun.has(id)) {
      broken('unanswered', `${id} was begun and not answered`)
    } else if (accepted.has(String(port))) {
      outcome.resetUnbegun++
    } else {
      outcome.resetUnaccepted++
    }
  }
  if (code === null) broken('hangs', `no exit within ${hangMs} ms`)
  else if (code !== 0) broken('failedExits', `exit code ${code}`)
  return { outcome, breaches }
}

export const nothing: Readonly<Outcome> = {
  requests: 0,
  answered: 0,
  refused: 0,
  left: 0,
  resetUnaccepted: 0,
  resetUnbegun: 0,
  unanswered: 0,
  uncommitted: 0,
  untrue: 0,
  failedExits: 0,
  hangs: 0
}
