import { setTimeout as delay } from 'node:timers/promises'
import type { Beside } from '../recipe.ts'
import { untilUp } from '../until-up.ts'

/** WebSockets through the proxy, and clients that leave before the upstream has answered. */
export function proxyClients (origin: string): Beside {
  const sockets = untilUp(origin).then(() => Promise.all(Array.from({ length: 3 }, () => talk(origin))))
  const impatient = untilUp(origin).then(() => leaveAgainAndAgain(origin))
  return {
    async ended () {
      await impatient
      return (await sockets).flat()
    }
  }
}

async function talk (origin: string): Promise<string[]> {
  const socket = new WebSocket(`${origin.replace('http', 'ws')}/api/echo`)
  let heard = 0
  socket.addEventListener('message', () => { heard++ })
  const timer = setInterval(() => { if (socket.readyState === WebSocket.OPEN) socket.send('hello') }, 50)
  const code = await new Promise<number>(resolve => {
    socket.addEventListener('error', () => resolve(0))
    socket.addEventListener('close', ({ code }) => resolve(code))
  })
  clearInterval(timer)
  return [
    ...heard > 0 ? [] : ['a WebSocket got no echo'],
    ...code === 1001 ? [] : [`a WebSocket was closed with ${code} instead of 1001`]
  ]
}

async function leaveAgainAndAgain (origin: string): Promise<void> {
  for (;;) {
    try {
      await fetch(`${origin}/api/slow`, { signal: AbortSignal.timeout(100) })
    } catch (error) {
      if ((error as Error).name !== 'TimeoutError') return
    }
    await delay(20)
  }
}
