import type { DrainReport } from 'fastify-drain'
import type { StopAccount } from 'fastify-drain/test'

/** The number of requests with another outcome than without a stop. The kit judges unread requests, which never began. */
export function cut ({ before, after }: StopAccount): number {
  const lost = ['failed', 'refused', 'cut', 'abandoned', 'hung'] as const
  return lost.reduce((sum, outcome) => sum + before[outcome] + after[outcome], 0)
}

/** The report in the last line of the log that has one. */
export function reportOf ({ output }: StopAccount): DrainReport | undefined {
  return output.map(reportIn).findLast(report => report !== undefined)
}

function reportIn (line: string): DrainReport | undefined {
  try {
    return (JSON.parse(line) as { drain?: DrainReport } | null)?.drain
  } catch {
    return undefined
  }
}

/** Checks what the kit cannot check. Returns one line for each fault. */
export function compare (account: StopAccount, report: DrainReport | undefined, lameDuck: number): string[] {
  const faults: string[] = []
  if (account.inFlight === 0) faults.push(`Nothing was in flight at ${account.signal}: the stop proves nothing.`)
  if (report === undefined) faults.push('No line of its last output has the report.')
  else if (report.exitCode !== account.exit.code) faults.push(`The report says exit code ${String(report.exitCode)}, and the process ended with ${account.exit.code ?? account.exit.signal}.`)
  if (report !== undefined && (report.phases.closing ?? 0) < lameDuck) faults.push(`The lame duck was cut short: closing began after ${String(report.phases.closing)} ms instead of ${lameDuck}.`)
  return faults
}
