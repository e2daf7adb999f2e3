import { runCommand } from '../verify/command.ts'
import { home } from './home.ts'

await runCommand(process.argv.slice(2), home)
