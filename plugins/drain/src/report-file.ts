import { accessSync, constants, statSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { FST_ERR_DRAIN_OPTION } from './errors.ts'
import { describeError } from './report.ts'
import type { DrainReport } from './report.ts'

/** @throws FST_ERR_DRAIN_OPTION if the file cannot be written: at the end of a stop it would be too late to learn that. */
export function reportFilePath (path: string): string {
  const absolute = resolve(path)
  try {
    const found = statSync(absolute, { throwIfNoEntry: false })
    if (found?.isDirectory() === true) throw new Error('it is a folder')
    accessSync(found === undefined ? dirname(absolute) : absolute, constants.W_OK)
  } catch (error) {
    throw new FST_ERR_DRAIN_OPTION(`\`reportFile\` is '${path}', which cannot be written to: ${describeError(error)}`)
  }
  return absolute
}

/**
 * Synchronous, because the process may be about to end. In place and not by a rename, because the file may be mounted
 * into a container.
 */
export function writeReportFile (path: string, report: DrainReport): void {
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`)
}
