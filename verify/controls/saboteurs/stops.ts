import fs from 'node:fs'
import { ServerResponse } from 'node:http'
import { Server, Socket } from 'node:net'
import type { Saboteur } from './saboteur.ts'
import { atSignal, wrap } from './wrap.ts'

/** Stops that abandon, and stops that say what is not so. */
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
  // What is answered after the signal never gets there, so that the stop abandons it at its deadline; and says that it was clean.
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
      const exit = process.exit.bind(process)
      process.exit = () => exit(0)
      process.on('exit', () => { process.exitCode = 0 })
    }
  },
  'report-lies': {
    install ({ did }) {
      wrap(fs, 'writeSync', (writeSync, [fd, text, ...rest]) => {
        if (typeof text !== 'string' || !text.includes('"drain":{')) return writeSync([fd, text, ...rest])
        did('')
        writeSync([fd, text.replace(/"completed":\{"count":\d+,"ids":\[[^\]]*\]/, '"completed":{"count":999,"ids":[]'), ...rest])
        // Whoever writes wants to know that all of it is written.
        return Buffer.byteLength(text)
      })
    }
  },
  // Readiness says so at once, but a balancer looks only now and then.
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
  'always-ready': {
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
