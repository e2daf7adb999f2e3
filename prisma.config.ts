import { defineConfig } from 'prisma/config'

// `prisma generate` would download a schema engine it never runs, which an offline machine cannot. A program
// that exists is enough for it. `npm run db:diff` uses the WebAssembly build of the same engine; applying migrations needs none.
process.env.PRISMA_SCHEMA_ENGINE_BINARY ??= process.execPath

export default defineConfig({
  schema: 'prisma/schema.prisma',
  migrations: { path: 'prisma/migrations' }
})
