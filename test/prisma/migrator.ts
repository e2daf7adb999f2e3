// Migrates the given database with the migrations of the given folder.
import { migrate } from '../../prisma/migrate.ts'

const [url = '', directory] = process.argv.slice(2)
try {
  const { applied } = await migrate({ url, directory, log: console.log })
  console.log(`applied ${JSON.stringify(applied)}`)
} catch (error) {
  console.log((error as Error).message)
  process.exitCode = 1
}
