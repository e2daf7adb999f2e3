import { existsSync } from 'node:fs'
import { extname, join } from 'node:path'
import { Child } from './child.ts'
import { ledgerOf, type LedgerLine } from './gateway/ledger.ts'
import { answerMs } from './gateway/notifications.ts'
import type { GatewaySettings, GatewayState, TellGateway } from './gateway/settings.ts'
import { freePort } from './free-port.ts'
import type { Time } from './history.ts'
import { linesOf } from './lines.ts'

/** In the package it is JavaScript, like this module. */
const program = join(import.meta.dirname, `gateway/main${extname(import.meta.filename)}`)

export interface GatewayOptions {
  /** Absolute path of the folder for its ledger and its log. */
  readonly directory: string
  /** The seed of its faults: the same seed draws the same ones, call by call. */
  readonly seed: number
  /** ms for which it remembers an id, and so charges it once. */
  readonly keysKeptMs: number
  readonly state?: Partial<GatewayState>
}

/** Controls the payment gateway: a process of its own, which ends when this one ends. */
export interface GatewayProcess {
  readonly url: string
  readonly token: string
  readonly notifySecret: string
  /** Resolves when the gateway has changed its behaviour. */
  set: (state: TellGateway) => Promise<void>
  /** Kills the gateway during calls, and starts another on the same ledger. Resolves when that takes calls. */
  restart: (afterMs: number) => Promise<void>
  /** Absolute path of its ledger, one `LedgerLine` per line, in sequence. */
  readonly ledgerFile: string
  ledger: () => Iterable<LedgerLine>
  /** How many of its notifications the service may have been handling between two times. */
  notices: (from: Time, to: Time) => number
  close: () => Promise<void>
}

export async function startGateway ({ directory, seed, keysKeptMs, state: begun = {} }: GatewayOptions): Promise<GatewayProcess> {
  const port = await freePort()
  let state: GatewayState = { calls: 'well', line: 'up', ...begun }
  const [token, notifySecret] = ['for-the-gateway-of-verify-only', 'whsec_' + Buffer.from('known to everybody who runs verify').toString('base64')]
  const [ledgerFile, noticesFile] = [join(directory, 'gateway-ledger.jsonl'), join(directory, 'gateway-notices.jsonl')]
  let lives = 0
  const start = async (): Promise<Child<TellGateway>> => {
    const settings: GatewaySettings = { ledgerFile, logFile: join(directory, 'gateway.log'), noticesFile, port, token, notifySecret, keysKeptMs, seed: Math.imul(seed, 0x9e3779b1) ^ lives++, state }
    return await Child.start(program, settings, 'The gateway')
  }
  let life = await start()
  return {
    url: `http://127.0.0.1:${port}`,
    token,
    notifySecret,
    async set (told) {
      state = { ...state, ...told }
      await life.tell(told)
    },
    async restart (afterMs) {
      await life.end()
      await new Promise(resolve => setTimeout(resolve, afterMs))
      life = await start()
    },
    ledgerFile,
    ledger: () => ledgerOf(ledgerFile),
    notices (from, to) {
      if (!existsSync(noticesFile)) return 0
      return Iterator
        .from(linesOf(noticesFile))
        .map(line => Number(line.toString()))
        .filter(at => at > from - answerMs && at < to)
        .reduce(count => count + 1, 0)
    },
    close: async () => await life.end()
  }
}
