import { readFileSync, writeFileSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'

// Loaded before the service, in its process: Date shows the time of a file, which may change at any moment, like the clock of a
// machine that is set. Monotonic time (performance, timers) is not affected; the Date header of node:http is Node's own.

const pollMs = 20
const file = process.env.VERIFY_CLOCK
const TrueDate = Date
const trueNow = Date.now
let offsetMs = 0
let followed = ''

function now (): number {
  return trueNow() + offsetMs
}

function follow (): void {
  const told = readFileSync(file ?? '', 'utf8')
  if (told === followed) return
  followed = told
  offsetMs = Number.parseInt(told)
  if (isMainThread) writeFileSync(`${file}.seen`, told)
}

if (file !== undefined) {
  TrueDate.now = now
  globalThis.Date = new Proxy(TrueDate, {
    construct: (target, args, newTarget) => Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget) as object,
    apply: () => new TrueDate(now()).toString()
  })
  TrueDate.prototype.constructor = globalThis.Date
  follow()
  setInterval(follow, pollMs).unref()
}
