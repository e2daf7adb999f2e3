import { relative } from 'node:path'
import { forPeople, UserError } from '../user-error.ts'
import { readArguments, usageOf } from './arguments.ts'
import type { Home } from './home.ts'
import { judgeAgain } from './judge-again.ts'
import { Progress } from './progress.ts'
import { terminalReport } from './report/terminal.ts'
import { run } from './run.ts'
import { lackingHere } from './scenarios.ts'
import { tryOnce } from './try.ts'

const exitCodes = { held: 0, broken: 1, unknown: 2 } as const

/** The whole command line: reads the arguments, does what they ask for, prints, and sets the exit code. */
export async function runCommand (args: string[], home?: Home): Promise<void> {
  // Each module that starts a process ends it in an exit handler, so that no exit leaves anything running.
  process.on('uncaughtException', giveUp)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => giveUp(new UserError(`${signal}: the run was ended, and nothing was judged.`)))
  }

  try {
    const options = readArguments(args, home)
    if (options === 'help') {
      const lacking = lackingHere()
      console.log(lacking.length === 0 ? usageOf(home) : `${usageOf(home)}\n\nNot on this machine:\n  ${lacking.join('\n  ')}`)
    } else if ('judge' in options) {
      const progress = new Progress(process.stdout)
      const verdict = await judgeAgain({ directory: options.judge, progress })
      progress.end(terminalReport(verdict, relative('', options.judge)))
      process.exitCode = exitCodes[verdict.verdict]
    } else if ('trial' in options) {
      const faults = await tryOnce({ ...options, progress: new Progress(process.stdout) })
      console.log(faults === 0 ? '\nEverything was understood. Now prove it: the same command without --try.' : `\n${faults} to be corrected, in the target file or in the service. Its log is in ${relative('', options.directory)}.`)
      process.exitCode = faults === 0 ? exitCodes.held : exitCodes.unknown
    } else if ('control' in options) {
      const areCaught = await home?.proveControls({ ...options, progress: new Progress(process.stdout) })
      process.exitCode = areCaught === true ? exitCodes.held : exitCodes.broken
    } else {
      const { scenario, directory, duration, rate, clients, seed } = options
      const progress = new Progress(process.stdout)
      progress.end(`${scenario}: ${duration / 1_000} s of load at ${rate === 'max' ? 'what the service takes' : `${rate}/s`} over ${clients} connections, seed ${seed}, into ${relative('', directory)}\n`)
      const verdict = await run({ ...options, home, progress })
      progress.end(terminalReport(verdict, relative('', directory)))
      process.exitCode = exitCodes[verdict.verdict]
    }
  } catch (error) {
    giveUp(error)
  }
}

/** Prints below the line of progress, which has no end on a terminal. */
function giveUp (error: unknown): never {
  if (process.stdout.isTTY) console.log()
  console.error(forPeople(error))
  process.exit(exitCodes.unknown)
}
