import { readFileSync, writeFileSync } from 'node:fs'
import { basename, extname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import type { Time } from '../history.ts'
import type { Run, Target } from '../target.ts'

/** A start, too: who is down follows when it is up again. */
const limitMs = 60_000
const pollMs = 10
/** Below node_modules it is JavaScript, as this is. */
const program = join(import.meta.dirname, `stepped-clock${extname(import.meta.filename)}`)

/** The clock that one instance goes by, in one process after another: it can be set, and the machine's stays as it is. */
export class Clock {
  readonly #file: string
  readonly #offsets = [0]

  /** @param file its own, in a folder that is there */
  constructor (file: string) {
    this.#file = file
    writeFileSync(file, '0 0')
  }

  /** Belongs into the environment of the process. */
  get env (): Readonly<Record<'NODE_OPTIONS' | 'VERIFY_CLOCK', string>> {
    return { NODE_OPTIONS: `--import=${pathToFileURL(program).href}`, VERIFY_CLOCK: this.#file }
  }

  /**
   * Sets it to so many ms from the true time; resolves when the process goes by it.
   *
   * @throws Error where it does not
   */
  async set (offsetMs: number): Promise<void> {
    // Numbered: the same time again is another setting.
    const told = `${offsetMs} ${this.#offsets.push(offsetMs)}`
    writeFileSync(this.#file, told)
    const until = performance.now() + limitMs
    while (!this.#isSeen(told)) {
      if (performance.now() > until) throw new Error(`The clock of the service was set, and within ${limitMs / 1_000} s it did not go by it. Its process must be Node 22.18 or newer, and leave NODE_OPTIONS as they are.`)
      await delay(pollMs)
    }
  }

  /**
   * When it was that the clock showed this, with whatever it had been set to; the same where none of that lies between the two.
   *
   * @param between a ms more or less is none: clocks show whole ones
   */
  trueTime (shown: Time, [from, to]: readonly [from: Time, to: Time]): Time {
    const times = this.#offsets.map(offset => shown - offset)
    return times.find(time => time >= from - 1 && time <= to + 1) ?? shown
  }

  #isSeen (told: string): boolean {
    try {
      return readFileSync(`${this.#file}.seen`, 'utf8') === told
    } catch {
      return false
    }
  }
}

/** Why its clock cannot be set; undefined where it can. */
export function clockMissing (target: Target): string | undefined {
  const run: Run = { directory: '/', products: [], databaseUrl: '', directDatabaseUrl: '' }
  const { command: [program] } = target.start(run, { index: 0, port: 1, opsPort: 2, balanced: false })
  return /^node(\.exe)?$/.test(basename(program)) ? undefined : `Only the clock of a Node process can be set, and ${target.name} is started by ${program}.`
}
