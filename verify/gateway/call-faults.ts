/** The fault of one call. */
export type CallFault =
  /** The call is executed, and the connection reset instead of an answer. */
  | 'lost'
  | '500-before' | '500-after'
  /** The call is executed, or answered, after its caller has given up. */
  | 'slow-before' | 'slow-after'

/** The outcome of a charge. */
export type Decision = 'at-once' | 'pending' | 'declined'

/** Shares of all calls; the remaining calls have no fault. */
const faultShares: ReadonlyArray<readonly [CallFault, number]> = [['lost', 0.06], ['500-before', 0.05], ['500-after', 0.05], ['slow-before', 0.03], ['slow-after', 0.03]]
const decisionShares: ReadonlyArray<readonly [Decision, number]> = [['declined', 0.08], ['pending', 0.1]]

/** How long a late call waits, as a share of its deadline. */
const late = [1.1, 1.8] as const
/** ms that a notification takes, so that notifications overtake each other. */
const noticeMs = 2_000
/** ms until a pending charge is decided. */
const pendingMs = [200, 4_000] as const

type Draw = () => number

export function drawFault (draw: Draw): CallFault | undefined {
  return drawFrom(faultShares, draw)
}

export function drawDecision (draw: Draw): Decision {
  return drawFrom(decisionShares, draw) ?? 'at-once'
}

/** Whether a pending charge is declined. */
export function drawDeclined (draw: Draw): boolean {
  return draw() < 0.2
}

/** In ms. */
export function drawLateness (draw: Draw, deadlineMs: number): number {
  return deadlineMs * within(late, draw)
}

export function drawPendingMs (draw: Draw): number {
  return within(pendingMs, draw)
}

/** When the notifications of one change are sent, in ms after it: none, one or two. */
export function drawNotices (draw: Draw): number[] {
  const which = draw()
  const count = which < 0.25 ? 0 : which < 0.75 ? 1 : 2
  return Array.from({ length: count }, () => draw() * noticeMs)
}

function drawFrom<Of> (shares: ReadonlyArray<readonly [Of, number]>, draw: Draw): Of | undefined {
  let left = draw()
  return shares.find(([, share]) => (left -= share) < 0)?.[0]
}

function within ([from, to]: readonly [number, number], draw: Draw): number {
  return from + draw() * (to - from)
}
