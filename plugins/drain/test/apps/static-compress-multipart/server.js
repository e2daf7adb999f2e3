// Files: downloads that take long, compressed or not, and uploads that are stored while they arrive.
import { createWriteStream } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import Fastify from 'fastify'
import drain from 'fastify-drain' // drain
import compress from '@fastify/compress'
import multipart from '@fastify/multipart'
import files from '@fastify/static'
import { Pool } from '../pool.js'

const MIB = 1024 * 1024

const root = await mkdtemp(join(tmpdir(), 'drain-files-'))
await writeFile(join(root, 'page.html'), '<p>a page</p>'.repeat(1_000))
await writeFile(join(root, 'large.bin'), Buffer.alloc(32 * MIB, 'x'))
await writeFile(join(root, 'large.txt'), 'a line of a large text\n'.repeat(100_000))
const pool = new Pool()

const app = Fastify({ logger: true })
await app.register(drain, { lameDuck: { min: 300 }, deadline: 15_000 }) // drain
await app.register(compress)
await app.register(multipart, { limits: { fileSize: 64 * MIB } })
await app.register(files, { root, prefix: '/files/' })
app.addHook('onClose', async () => {
  await pool.end()
  await rm(root, { recursive: true })
})

app.post('/upload', async (request) => {
  let bytes = 0
  for await (const { file, filename } of request.files()) {
    file.on('data', ({ length }) => { bytes += length })
    await pipeline(file, createWriteStream(join(root, `${request.id}-${filename}`)))
  }
  await pool.query()
  return { bytes }
})
app.get('/work', async () => {
  await pool.query()
  return { text: 'compressed, as it is long enough. '.repeat(100) }
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '127.0.0.1' })
