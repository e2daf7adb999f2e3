import { writeSync } from 'node:fs'
import { registerHooks } from 'node:module'

// For `--import`: the last line that the process prints names the packages of OpenTelemetry and the files of tracing/ that it loaded.
const loaded = new Set<string>()
registerHooks({
  load (url, context, next) {
    const [what] = /(?<=node_modules\/)@opentelemetry\/[\w-]+|\btracing\/[\w-]+\.ts$/.exec(url) ?? []
    if (what !== undefined) loaded.add(what)
    return next(url, context)
  }
})
process.on('exit', () => { writeSync(1, `loaded ${[...loaded].sort().join(' ')}\n`) })
