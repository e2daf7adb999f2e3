/** What the program of the gateway is started with: its one argument, as JSON. */
export interface GatewaySettings {
  /** Absolute paths; all are gone on with that an earlier process has left. A line of JSON in the log for each call. */
  readonly ledgerFile: string
  readonly logFile: string
  /** A line for each notification: when it was sent, as a `Time`. */
  readonly noticesFile: string
  /** Of 127.0.0.1. */
  readonly port: number
  /** Whoever asks has to show it. */
  readonly token: string
  readonly notifySecret: string
  /** Of its faults. */
  readonly seed: number
  /** ms in which the same id is done once. */
  readonly keysKeptMs: number
  readonly state: GatewayState
}

/** How it is, until it is told otherwise. */
export interface GatewayState {
  /** `faulty`: each call has a fault of its own or none, by the seed. `well`: none has, nothing is declined, and nothing stays pending. */
  readonly calls: 'faulty' | 'well'
  /** `refusing`: nobody listens. `cutting`: each call is cut, and nothing done. `hanging`: no call is answered, and nothing done. */
  readonly line: 'up' | 'refusing' | 'cutting' | 'hanging'
  /** Where notifications go. Absent: nowhere. */
  readonly notifyUrl?: string
}

/** What its parent tells it. It answers `done`. */
export type TellGateway = Partial<GatewayState>
