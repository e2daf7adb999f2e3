import { once } from 'node:events'
import { get } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Beside } from '../recipe.ts'
import { untilUp } from '../until-up.ts'

const paths = ['/written', '/generated']

/** Streams that are read to their end, and clients that leave in the middle of one. */
export function streamClients (origin: string): Beside {
  const up = untilUp(origin)
  const read = paths.flatMap(path => Array.from({ length: 3 }, () => up.then(() => readToItsEnd(origin, path))))
  const left = paths.map(path => up.then(() => leave(origin, path)))
  return {
    async ended () {
      await Promise.all(left)
      return (await Promise.all(read)).flat()
    }
  }
}

async function readToItsEnd (origin: string, path: string): Promise<string[]> {
  let text = ''
  try {
    const [response] = await once(open(origin, path), 'response') as [IncomingMessage]
    for await (const chunk of response.setEncoding('utf8')) text += String(chunk)
  } catch (error) {
    return [`${path} was cut: ${(error as Error).message}`]
  }
  if (!text.includes('data: "tick"')) return [`${path} brought no event`]
  return text.endsWith('\n\n') ? [] : [`${path} ended in the middle of an event`]
}

async function leave (origin: string, path: string): Promise<void> {
  const asked = open(origin, path)
  await once(asked, 'response')
  await delay(300)
  asked.destroy()
}

function open (origin: string, path: string): ReturnType<typeof get> {
  return get(`${origin}${path}`, { agent: false, headers: { accept: 'text/event-stream' } })
}
