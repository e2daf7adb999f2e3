import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import {
  bindMigrationAwareSqlAdapterFactory, DriverAdapterError, type SqlMigrationAwareDriverAdapterFactory
} from '@prisma/driver-adapter-utils'
import * as bindings from '@prisma/schema-engine-wasm/schema_engine_bg'
import pg from 'pg'

export type { MigrationList, SchemaEngine } from '@prisma/schema-engine-wasm/schema_engine_bg'

/** The official Prisma schema engine on the caller's connection. Import this file only where you need it: it loads 5 MB. */
export function openSchemaEngine (connections: SqlMigrationAwareDriverAdapterFactory): Promise<bindings.SchemaEngine> {
  return bindings.SchemaEngine.new({ datamodels: undefined }, () => {}, bindMigrationAwareSqlAdapterFactory(connections))
}

/** Postgres' error in the form that the engine passes on. It replaces other errors with a number. */
export function driverError (error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return error
  const { code = 'N/A', severity = 'N/A', message, detail, column, hint } = error
  return new DriverAdapterError({ kind: 'postgres', code, severity, message, detail, column, hint })
}

await instantiate()

/**
 * Loads the package's .wasm file by hand: the package imports it as a module, which Node 20 refuses and Node 24 warns about.
 * Once per process, because the bindings keep the instance in a variable of their own.
 */
async function instantiate (): Promise<void> {
  const file = fileURLToPath(import.meta.resolve('@prisma/schema-engine-wasm/schema_engine_bg'))
  const module = await WebAssembly.compile(await readFile(file.replace(/\.js$/, '.wasm')))
  const { exports } = await WebAssembly.instantiate(module, { './schema_engine_bg.js': imports() })
  bindings.__wbg_set_wasm(exports)
  const { __wbindgen_start: start } = exports
  if (typeof start !== 'function') throw new Error(`${file}: no __wbindgen_start`)
  start()
}

function imports (): Record<string, unknown> {
  const given: Record<string, unknown> = { ...bindings }
  for (const [name, value] of Object.entries(bindings)) {
    if (name.startsWith('__wbg_setTimeout_')) {
      // The engine sets a timer of 10 s for its wait for a lock and never clears it: without unref() a program would wait for it.
      given[name] = (...args: unknown[]) => (value as (...args: unknown[]) => NodeJS.Timeout)(...args).unref()
    } else if (name.startsWith('__wbg_set_message_')) {
      // A panic writes its message to a global that only Prisma's CLI defines. The error that follows says less.
      given[name] = () => {}
    }
  }
  return given
}

// TypeScript declares it only in lib.dom, with everything else of the browser.
declare const WebAssembly: {
  compile (bytes: Uint8Array): Promise<object>
  instantiate (module: object, imports: object): Promise<{ exports: Record<string, unknown> }>
}
