import type { Beside } from '../recipe.ts'
import { untilUp } from '../until-up.ts'

interface Answer {
  order?: number
  error?: string
}

/** Clients that place one order after the other until they are told that the service stops. */
export function orderClients (origin: string): Beside {
  const clients = ['websocket', 'websocket', 'polling', 'polling'].map(transport => untilUp(origin).then(() => placeOrders(origin, transport)))
  return { ended: async () => (await Promise.all(clients)).flat() }
}

async function placeOrders (origin: string, transport: string): Promise<string[]> {
  // The runner installs it after it has read the recipes.
  const { io } = await import('socket.io-client')
  const socket = io(origin, { transports: [transport], reconnection: false, forceNew: true })
  const faults: string[] = []
  const unanswered = new Set<number>()
  let next = 0
  let stored = 0
  let isStopping = false
  const timer = setInterval(() => {
    if (!socket.connected || isStopping) return
    const order = next++
    unanswered.add(order)
    socket.emit('order', order, (answer: Answer) => {
      unanswered.delete(order)
      if (answer.order === order) stored++
      else if (answer.error !== 'not-started') faults.push(`an order by ${transport} failed: ${String(answer.error)}`)
    })
  }, 50)
  socket.on('stopping', () => { isStopping = true })
  const reason = await new Promise<string>(resolve => {
    socket.on('disconnect', resolve)
    socket.on('connect_error', ({ message }) => resolve(message))
  })
  clearInterval(timer)
  socket.disconnect()

  // After some other reasons a client does not reconnect by itself.
  if (reason !== 'transport close') faults.push(`a client by ${transport} was disconnected for '${reason}' instead of 'transport close'`)
  if (!isStopping) faults.push(`a client by ${transport} was not told that the service stops`)
  if (stored === 0) faults.push(`no order by ${transport} was stored`)
  if (unanswered.size > 0) faults.push(`${unanswered.size} orders by ${transport} were not answered`)
  return faults
}
