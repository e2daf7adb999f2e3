/** The settings of the gateway's program: its only argument, as JSON. */
export interface GatewaySettings {
  /** Absolute paths; existing files of an earlier process are continued. The log gets a line of JSON for each call. */
  readonly ledgerFile: string
  readonly logFile: string
  /** Gets a line for each notification: when it was sent, as a `Time`. */
  readonly noticesFile: string
  /** The port of 127.0.0.1. */
  readonly port: number
  /** The token that callers must send. */
  readonly token: string
  readonly notifySecret: string
  /** The seed of its faults. */
  readonly seed: number
  /** ms for which it remembers an id, and so charges it once. */
  readonly keysKeptMs: number
  readonly state: GatewayState
}

/** How it behaves, until its parent changes it. */
export interface GatewayState {
  /** `faulty`: each call has a fault or none, by the seed. `well`: no call has a fault, nothing is declined, and nothing stays pending. */
  readonly calls: 'faulty' | 'well'
  /** `refusing`: it does not listen. `cutting`: it cuts each call and charges nothing. `hanging`: it answers no call and charges nothing. */
  readonly line: 'up' | 'refusing' | 'cutting' | 'hanging'
  /** The receiver of notifications. Absent: it sends none. */
  readonly notifyUrl?: string
}

/** The commands of its parent. It answers `done`. */
export type TellGateway = Partial<GatewayState>
