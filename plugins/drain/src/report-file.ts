import { accessSync, constants, renameSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { FST_ERR_DRAIN_OPTION } from './errors.ts'
import { describeError } from './report.ts'
import type { DrainReport } from './report.ts'

/** @throws FST_ERR_DRAIN_OPTION where its folder cannot be written to: at the end it would be too late to learn that. */
export function reportFilePath (path: string): string {
  const absolute = resolve(path)
  try {
    accessSync(dirname(absolute), constants.W_OK)
  } catch (error) {
    throw new FST_ERR_DRAIN_OPTION(`\`reportFile\` is '${path}', and its folder cannot be written to: ${describeError(error)}`)
  }
  return absolute
}

/** Synchronously, as the process may be about to end; whoever reads the file finds the whole report or none. */
export function writeReportFile (path: string, report: DrainReport): void {
  const unfinished = `${path}.${process.pid}`
  writeFileSync(unfinished, `${JSON.stringify(report, null, 2)}\n`)
  renameSync(unfinished, path)
}
