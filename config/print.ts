import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import type { Judged } from '../config.ts'
import { forPeople, UserError } from '../user-error.ts'
import { settingsOf } from './files.ts'
import { Layers, readLayers, readLocal, type Central } from './layers.ts'
import { reloadable, rotatable } from './running.ts'
import type { Source } from './source.ts'

class Misused extends UserError {}

const usage = `Usage:
  npm run -s config                     the settings of this machine, and the layer of each
  npm run -s config -- --json           the same for programs
  npm run -s config -- --check FILE     the faults and the changes if FILE (as .env: NAME=value) were the central settings`

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  console.error(forPeople(error))
  process.exitCode = 2
}

/** @returns the exit code: 0 without faults, 1 with faults */
async function run (args: string[]): Promise<number> {
  const { check, json } = optionsOf(args)
  const layers = await readLayers()
  const judged = layers.judge()
  if (check === undefined) {
    console.log(json
      ? JSON.stringify({ layers: layers.central?.source.name ?? null, settings: layers.shown(judged), faults: judged.faults }, null, 2)
      : table(layers, judged))
    return printFaults([...judged.faults], 'The settings cannot be used. The service would not start with them.')
  }

  const checked = new Layers(readLocal(), central(check, await readFile(check, 'utf8').catch((error: Error) => { throw new Misused(`${check} cannot be read (${error.message}).`) })), layers.sealed)
  const next = checked.judge()
  const faults = [...next.faults, ...checked.strangers(next).map(name => `${name} is no setting of this version.`)]
  const changes = [...next.settings.values()].filter(({ name, digest }) => judged.settings.get(name)?.digest !== digest)
  for (const { name, shown, isSecret } of changes) {
    const was = judged.settings.get(name)?.shown
    console.log(`${name}: ${isSecret ? 'another secret' : `${was ?? '(none)'} → ${shown ?? '(none)'}`}   ${reloadable.has(name) || rotatable.has(name) ? 'while the service runs' : 'takes a restart'}`)
  }
  if (changes.length === 0) console.log('Nothing would change.')
  return printFaults(faults, `${check} cannot be used as it is.`)
}

function printFaults (faults: string[], what: string): number {
  if (faults.length === 0) return 0
  console.error(`${what}\n${faults.map(fault => `  - ${fault}`).join('\n')}`)
  return 1
}

/** The file in place of the source. */
function central (file: string, text: string): Central {
  const none = async (): Promise<never> => { throw new Misused('The checked file is read only once.') }
  const source: Source = { name: file, read: none, next: none }
  return { source, snapshot: { values: settingsOf(text), version: 'checked' }, copiedAt: undefined }
}

function table (layers: Layers, judged: Judged): string {
  const rows = layers.shown(judged).map(({ name, layer, value, isSecret }) => [name, layer, isSecret ? layer === 'default' ? '' : '(a secret)' : value ?? ''])
  const widths = [0, 1].map(column => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  const copied = layers.central?.copiedAt
  return [
    `central: ${layers.central === undefined ? 'CONFIG_URL is not set' : `${layers.central.source.name}, ${layers.central.snapshot.version}${copied === undefined ? '' : `, a copy of ${copied.toISOString()}`}`}`,
    ...rows.map(row => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ').trimEnd()),
    ...layers.strangers(judged).map(name => `${name}  central  is no setting of this version and has no effect`)
  ].join('\n')
}

function optionsOf (args: string[]): { check: string | undefined, json: boolean } {
  try {
    const { values } = parseArgs({ args, options: { check: { type: 'string' }, json: { type: 'boolean', default: false } } })
    return { check: values.check, json: values.json }
  } catch {
    throw new Misused(usage)
  }
}
