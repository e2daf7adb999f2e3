import { readFileSync, writeFileSync } from 'node:fs'
import { basename, extname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import type { Time } from '../history.ts'
import type { Run, Target } from '../target.ts'
import { UserError } from '../../user-error.ts'

/** As long as a start may take: an instance that is down follows the clock when it is up again. */
const limitMs = 60_000
const pollMs = 10
/** Below node_modules it is JavaScript, like this module. */
const program = join(import.meta.dirname, `stepped-clock${extname(import.meta.filename)}`)

/** The clock of one instance, over its processes. It can be set without changing the machine's clock. */
export class Clock {
  readonly #file: string
  readonly #offsets = [0]

  /** @param file a file of its own, in an existing folder */
  constructor (file: string) {
    this.#file = file
    writeFileSync(file, '0 0')
  }

  /** Variables for the environment of the process. */
  get env (): Readonly<Record<'NODE_OPTIONS' | 'VERIFY_CLOCK', string>> {
    return { NODE_OPTIONS: `--import=${pathToFileURL(program).href}`, VERIFY_CLOCK: this.#file }
  }

  /**
   * Sets the clock to `offsetMs` from the true time; resolves when the process follows it.
   *
   * @throws Error if the process does not follow
   */
  async set (offsetMs: number): Promise<void> {
    // Numbered, so that the same offset again is a new setting.
    const told = `${offsetMs} ${this.#offsets.push(offsetMs)}`
    writeFileSync(this.#file, told)
    const until = performance.now() + limitMs
    while (!this.#isSeen(told)) {
      if (performance.now() > until) throw new UserError(`The clock of the service was set, and within ${limitMs / 1_000} s it did not go by it. Its process must be Node 22.18 or newer, and leave NODE_OPTIONS as they are.`)
      await delay(pollMs)
    }
  }

  /**
   * Converts a time that the clock showed to the true time, by the offsets that it had. Returns the same time if no result lies
   * within the range.
   *
   * @param between the range in true time; 1 ms more or less is tolerated, because clocks show whole ms
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

/** Why its clock cannot be set; undefined if it can. */
export function clockMissing (target: Target): string | undefined {
  const run: Run = { directory: '/', products: [], databaseUrl: '', directDatabaseUrl: '' }
  const { command: [program] } = target.start(run, { index: 0, port: 1, opsPort: 2, balanced: false })
  return /^node(\.exe)?$/.test(basename(program)) ? undefined : `Only the clock of a Node process can be set, and ${target.name} is started by ${program}.`
}
