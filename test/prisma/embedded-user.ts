// Uses the embedded Postgres in the given folder until its standard input ends.
import { once } from 'node:events'
import { startEmbeddedPostgres } from '../../postgres/embedded.ts'

try {
  const server = await startEmbeddedPostgres({ directory: process.argv[2] ?? '', log: console.log })
  console.log(`ready ${server.url}`)
  await once(process.stdin.resume(), 'end')
  await server.release()
  console.log('released')
} catch (error) {
  const { name, code, message } = error as Error & { code?: string }
  console.log(JSON.stringify({ name, code, message }))
  process.exitCode = 1
}
