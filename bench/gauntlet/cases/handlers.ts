import { setTimeout as sleep } from 'node:timers/promises'
import { answered, ask } from '../ask.ts'
import { must } from '../fault.ts'
import type { Cell } from '../service.ts'
import type { Case } from './case.ts'

const formPaths = ['/async', '/callback', '/return-reply', '/stream', '/hijack', '/thrown', '/not-found']

/** Each form runs in a process of its own: one that the stop waits for would hide one that it does not wait for. */
async function commits (cell: Cell, form: string): Promise<boolean> {
  const service = await cell.start()
  await service.beginAndLeave(form, 'order', 1_500)
  service.signal()
  await service.exit()
  return service.has('committed order')
}

export const forms: Case = {
  name: 'forms',
  says: 'The same as `gone` for handlers that are async, take callbacks, return the reply, send a stream or hijack, for error handlers and for slow 404s',
  async run (cell) {
    const failed: string[] = []
    for (const form of formPaths) {
      if (!await commits(cell, form).catch(() => false)) failed.push(form.slice(1))
    }
    must(failed.length === 0, failed.length === formPaths.length ? `none of ${formPaths.length}` : `not ${failed.join(', ')}`)
  }
}

export const close: Case = {
  name: 'close',
  says: 'A plain app.close() waits for a transaction whose client has hung up before the pool closes',
  async run (cell) {
    const service = await cell.start()
    await service.beginAndLeave('/async', 'order', 1_500)
    service.tell('close')
    await service.says('pool closed', 'pool not closed')
    // The transaction of a pool that was closed too early ends all the same.
    await Promise.race([service.ended, service.line(/^(?:committed|lost) order/)])
    must(service.has('committed order'), 'pool closed under it')
  }
}

export const inject: Case = {
  name: 'inject',
  says: 'A request by app.inject() is answered, and its transaction commits before the pool closes',
  async run (cell) {
    const service = await cell.start()
    service.tell('inject')
    await service.says('begun injected', 'not begun')
    service.signal()
    await service.exit()
    service.mustCommit('injected')
    must(service.has('injected 200'), 'not answered')
  }
}

export const background: Case = {
  name: 'background',
  says: 'Work that goes on after the reply, and is passed to the package if that takes such work, finishes before the pool closes',
  async run (cell) {
    const service = await cell.start()
    await service.ask('/background')
    service.signal()
    await service.exit()
    service.mustCommit('mail')
  }
}

export const twoApps: Case = {
  name: 'two-apps',
  says: 'Two apps in one process both answer their request in flight, the second 0.8 s after the first',
  async run (cell) {
    const service = await cell.start({ apps: 2 })
    const answers = service.urls.map((url, index) => ask(`${url}/async?name=${index}&ms=${400 + 800 * index}`))
    for (const index of answers.keys()) await service.says(`begun ${index}`, 'not begun')
    service.signal()
    await Promise.all(answers.map(answered))
  }
}

export const boot: Case = {
  name: 'boot',
  says: 'After a signal during the boot, the process exits, and has closed what the boot had opened',
  async run (cell) {
    const service = await cell.start({ slowBoot: true }, 'resource opened')
    await sleep(100)
    service.signal()
    const { code } = await service.exit()
    must(service.has('resource closed'), `exit ${code}, left open`)
  }
}
