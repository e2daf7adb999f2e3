import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { answered } from '../ask.ts'
import { must } from '../fault.ts'
import { signalGroup } from '../service.ts'
import type { Cell } from '../service.ts'
import type { Case } from './case.ts'

async function faulty (cell: Cell, fault: 'crash' | 'reject'): Promise<void> {
  const service = await cell.start()
  const { answer } = await service.begin('order', 600)
  service.mark()
  service.tell(fault)
  await answered(answer)
  const { code } = await service.exit()
  must(code !== 0, 'exit 0')
}

export const crash: Case = {
  name: 'crash',
  says: 'After an uncaught exception, the request in flight is answered, and the process exits with a code other than 0',
  run: cell => faulty(cell, 'crash')
}

export const rejection: Case = {
  name: 'rejection',
  says: 'After an unhandled rejection: the same',
  run: cell => faulty(cell, 'reject')
}

export const hookHang: Case = {
  name: 'hook-hang',
  says: 'With an onClose hook that never ends, the process exits within a second of its deadline with a code other than 0, and its log names the hook',
  async run (cell) {
    const service = await cell.start({ stuckHook: true })
    service.signal()
    const { code } = await service.exit(service.deadline + 1_000)
    must(code !== 0, 'exit 0')
    must(service.named('stuckPool'), 'hook not named')
  }
}

export const threadPool: Case = {
  name: 'thread-pool',
  says: 'With the four threads of libuv\'s pool busy (crypto.pbkdf2), the process exits within a second of its deadline with a code other than 0',
  async run (cell) {
    const service = await cell.start({ deadline: 1_500 })
    const answer = service.ask('/thread-pool')
    await service.says('begun thread-pool', 'not begun')
    service.signal()
    try {
      const { code } = await service.exit(service.deadline + 1_000)
      must(code !== 0, 'exit 0')
    } finally {
      // Until it is killed, its threads go on working, which slows the other cells on this machine.
      service.kill('SIGKILL')
      await answer
    }
  }
}

export const report: Case = {
  name: 'report',
  says: 'After the signal, the log names an abandoned request by its id',
  async run (cell) {
    const service = await cell.start()
    const { answer } = await service.beginHanging({ headers: { 'x-request-id': 'the-abandoned-one' } })
    service.signal()
    await service.exit()
    await answer
    must(service.named('the-abandoned-one'), 'not named')
  }
}

export const exitCodes: Case = {
  name: 'exit-codes',
  says: 'A clean stop exits 0; a stop that abandons a request and one after an uncaught exception exit with two other codes',
  async run (cell) {
    const clean = await cell.start()
    clean.signal()
    const abandoning = await cell.start({ deadline: 1_500 })
    const { answer } = await abandoning.beginHanging()
    abandoning.signal()
    const crashing = await cell.start()
    crashing.tell('crash')
    const exits = await Promise.all([clean.exit(), abandoning.exit(), crashing.exit()])
    await answer
    const [first, second, third] = exits.map(({ code }) => code)
    must(first === 0 && second !== 0 && third !== 0 && second !== third, `${first}, ${second}, ${third}`)
  }
}

export const npm: Case = {
  name: 'npm',
  says: 'Under npm, Ctrl-C reaches npm, its shell and the service, and npm repeats it: the request in flight is answered',
  async run (cell) {
    const folder = await mkdtemp(join(tmpdir(), 'gauntlet-'))
    try {
      const [node, program, argument] = cell.command()
      await writeFile(join(folder, 'package.json'), JSON.stringify({ scripts: { start: `"${node}" "${program}" '${argument}'` } }))
      const service = await cell.startByNpm(folder)
      const { answer } = await service.begin('order', 1_000)
      signalGroup(service.child, 'SIGINT')
      await sleep(50)
      signalGroup(service.child, 'SIGINT')
      await answered(answer)
    } finally {
      cell.end()
      await rm(folder, { recursive: true, force: true })
    }
  }
}
