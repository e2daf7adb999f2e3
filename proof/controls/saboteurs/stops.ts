import fs from 'node:fs'
import { ServerResponse } from 'node:http'
import { Server, Socket } from 'node:net'
import type { Saboteur } from './saboteur.ts'
import { atSignal, wrap } from './wrap.ts'

/** Saboteurs that make stops abandon requests, or report something untrue. */
export const stops = {
  'exit-at-once': { install: ({ did }) => atSignal(() => { did(''); process.exit(0) }) },
  'cuts-connections': {
    install ({ did }) {
      const sockets = socketsOf()
      atSignal(() => {
        did('')
        for (const socket of sockets) socket.destroy()
      })
    }
  },
  // Answers after the signal never arrive, so that the stop abandons them at its deadline, and reports that it was clean.
  'exit-code-0': {
    install ({ did }) {
      let stopping = false
      wrap(ServerResponse.prototype, 'end', (end, args, response) => {
        return stopping && response instanceof ServerResponse && response.req.method === 'POST' ? response : end(args)
      })
      atSignal(() => {
        did('')
        stopping = true
      })
      // It is called last, after any other code that sets an exit code.
      wrap(process, 'reallyExit', exit => exit([0]))
      if ('execve' in process) wrap(process, 'execve', () => process.exit())
    }
  },
  // The same number of bytes, because the writer counts them.
  'report-lies': {
    install ({ did }) {
      for (const name of ['write', 'writeSync']) {
        wrap(fs, name, (write, [fd, chunk, ...rest]) => {
          const text = String(chunk)
          if (!text.includes('"drain":{')) return write([fd, chunk, ...rest])
          did('')
          return write([fd, text.replaceAll(/"(completed|abandoned)":\{/g, (_, fate: string) => fate === 'completed' ? '"abandoned":{' : '"completed":{'), ...rest])
        })
      }
    }
  },
  // Readiness changes at once, but a balancer checks only at intervals.
  'closes-at-once': {
    install ({ did }) {
      const servers = new Set<Server>()
      wrap(Server.prototype, 'listen', (listen, args, server) => {
        if (server instanceof Server) servers.add(server)
        return listen(args)
      })
      atSignal(() => {
        did('')
        for (const server of servers) Server.prototype.close.call(server)
      })
    }
  },
  'closing-waits-for-nothing': {
    install ({ did }) {
      let stopping = false
      wrap(Server.prototype, 'close', (close, args) => {
        const closed = close(args)
        if (stopping) {
          did('')
          setImmediate(() => process.exit(0))
        }
        return closed
      })
      atSignal(() => { stopping = true })
    }
  },
  // Hides the bytes that wait for a client which does not read, so that the service does not cut it.
  'unread-unseen': {
    install ({ did }) {
      wrap(Server.prototype, 'emit', (emit, args) => {
        const [event, socket] = args
        if (event === 'connection' && socket instanceof Socket) {
          did('')
          Object.defineProperty(socket, 'writableLength', { value: 0 })
          const handle: unknown = Reflect.get(socket, '_handle')
          if (typeof handle === 'object' && handle !== null) Object.defineProperty(handle, 'writeQueueSize', { value: 0 })
        }
        return emit(args)
      })
    }
  },
  'throws-in-stop': {
    install: ({ did }) => atSignal(() => {
      did('')
      setImmediate(() => { throw new Error('thrown by a saboteur, in the stop') })
    })
  },
  // Also to checks by a connection of their own, such as HAProxy's agent check.
  'always-ready': {
    install ({ did }) {
      wrap(Socket.prototype, 'end', (end, args) => {
        if (args[0] !== 'drain\n') return end(args)
        did('')
        return end(['ready up 100%\n'])
      })
    },
    asked: ({ path, stopping }) => stopping && path === '/readyz' ? { status: 200, headers: {}, body: '' } : undefined,
    limit: Infinity
  }
} as const satisfies Record<string, Saboteur>

function socketsOf (): ReadonlySet<Socket> {
  const sockets = new Set<Socket>()
  wrap(Server.prototype, 'emit', (emit, args) => {
    const [event, socket] = args
    if (event === 'connection' && socket instanceof Socket) {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    }
    return emit(args)
  })
  return sockets
}
