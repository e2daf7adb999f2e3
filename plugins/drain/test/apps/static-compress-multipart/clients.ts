import { once } from 'node:events'
import { get, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Beside } from '../recipe.ts'
import { untilUp } from '../until-up.ts'

const mib = 1024 * 1024
const boundary = 'a-boundary'

/** Uploads and downloads that begin before the signal, and end long after it. */
export function fileClients (origin: string): Beside {
  const up = untilUp(origin)
  const all = [
    up.then(() => upload(origin, { pauseMs: 0 })),
    up.then(() => upload(origin, { pauseMs: 2_000 })),
    up.then(() => download(origin))
  ]
  return { ended: async () => (await Promise.all(all)).flat() }
}

/** @param pauseMs in which the client, a phone in a tunnel, sends nothing */
async function upload (origin: string, { pauseMs }: { pauseMs: number }): Promise<string[]> {
  const asked = request(`${origin}/upload`, { method: 'POST', headers: { 'content-type': `multipart/form-data; boundary=${boundary}` } })
  const answer = answerTo(asked)
  const chunk = Buffer.alloc(64 * 1024, 'x')
  asked.write(partHead('large.txt'))
  for (let n = 0; n < 40; n++) {
    asked.write(chunk)
    await delay(n === 20 ? pauseMs : 60)
  }
  asked.end(partEnd())
  const { status, body } = await answer
  const bytes = JSON.stringify({ bytes: 40 * chunk.length })
  return status === 200 && body === bytes ? [] : [`an upload with a pause of ${pauseMs} ms was answered ${status} ${body} instead of 200 ${bytes}`]
}

async function answerTo (asked: ReturnType<typeof request>): Promise<{ status: number | string, body: string }> {
  try {
    const [response] = await once(asked, 'response') as [IncomingMessage]
    let body = ''
    for await (const chunk of response.setEncoding('utf8')) body += String(chunk)
    return { status: response.statusCode ?? 0, body }
  } catch (error) {
    return { status: (error as NodeJS.ErrnoException).code ?? 'an error', body: '' }
  }
}

/** At some 10 MiB/s. */
async function download (origin: string): Promise<string[]> {
  let bytes = 0
  let expected = 0
  try {
    const [response] = await once(get(`${origin}/files/large.bin`), 'response') as [IncomingMessage]
    expected = Number(response.headers['content-length'])
    for await (const chunk of response) {
      const before = bytes
      bytes += (chunk as Buffer).length
      if (Math.floor(before / mib) !== Math.floor(bytes / mib)) await delay(100)
    }
  } catch (error) {
    return [`a download ended at ${bytes} of ${expected} bytes: ${(error as Error).message}`]
  }
  return bytes === expected ? [] : [`a download ended at ${bytes} of ${expected} bytes`]
}

export const form = {
  headers: { 'content-type': `multipart/form-data; boundary=${boundary}` },
  body: `${partHead('small.txt')}${'x'.repeat(20_000)}${partEnd()}`
}

function partHead (filename: string): string {
  return `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="${filename}"\r\nContent-Type: text/plain\r\n\r\n`
}

function partEnd (): string {
  return `\r\n--${boundary}--\r\n`
}
