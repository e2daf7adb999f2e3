import { request as plainRequest, type IncomingMessage } from 'node:http'
import { request as secureRequest } from 'node:https'
import { SourceError } from './source.ts'

/** The largest answer, in bytes; etcd limits a request to 1.5 MiB. */
const answerMax = 4 * 1_048_576

export interface Asked {
  method: 'GET' | 'POST'
  url: string
  headers?: Record<string, string>
  body?: string
  signal: AbortSignal
}

/**
 * Resolves with the head of the answer, before its body. It does not use fetch(), whose kept connections would outlive a stop.
 *
 * @throws SourceError
 */
export async function ask ({ method, url, headers, body, signal }: Asked): Promise<IncomingMessage> {
  try {
    return await new Promise<IncomingMessage>((resolve, reject) => {
      const request = url.startsWith('https:') ? secureRequest : plainRequest
      request(url, { method, agent: false, headers: { ...headers, connection: 'close', ...body !== undefined && { 'content-length': Buffer.byteLength(body) } }, signal }, resolve)
        .on('socket', socket => socket.setKeepAlive(true, 10_000))
        .on('error', reject)
        .end(body)
    })
  } catch (error) {
    throw noAnswer(error, signal)
  }
}

/** @throws SourceError */
export async function textOf (response: IncomingMessage, signal: AbortSignal): Promise<string> {
  let text = ''
  try {
    response.setEncoding('utf8')
    for await (const chunk of response) {
      text += String(chunk)
      if (text.length > answerMax) throw new SourceError(`it answered more than ${answerMax} bytes`)
    }
    return text
  } catch (error) {
    throw error instanceof SourceError ? error : noAnswer(error, signal)
  }
}

/** The JSON of an answer. @throws SourceError */
export function jsonOf (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new SourceError('its answer is no JSON')
  }
}

/** A nested member of a parsed answer; undefined if there is none. */
export function part (value: unknown, ...names: string[]): unknown {
  return names.reduce<unknown>((whole, name) => typeof whole === 'object' && whole !== null ? Reflect.get(whole, name) : undefined, value)
}

export function listOf (value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function noAnswer (error: unknown, signal: AbortSignal): SourceError {
  if (signal.aborted) return new SourceError('it did not answer in time')
  return new SourceError(`it cannot be reached (${error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'})`)
}
