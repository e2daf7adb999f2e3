import { digestOf } from '../digest.ts'
import type { Answer, Completion, Operation, OrderAnswered, Shown } from '../history.ts'
import type { Target } from '../target.ts'

/** How a request ended. */
export type Ending = { readonly answer: Answer } | Broken

/** A request without a whole answer. */
export interface Broken {
  /** The reason: the code of an error, or the client's own action: `timeout`, `hang-up`. */
  readonly error: string
  /** False only if it is certain that no byte was sent. */
  readonly sent: boolean
  /** The status of the answer that had begun. */
  readonly status?: number
}

/** The outcome. `ok`: it happened; `fail`: it did not happen; `info`: unknown. */
export function classify (understand: Target['understand'], operation: Operation, ending: Ending): Omit<Completion, 'op' | 'at'> {
  if ('answer' in ending) {
    const { answer } = ending
    try {
      const { orders, ...understood } = understand(operation, answer)
      return { status: answer.status, ...understood, ...answer.headers.connection === 'close' && { closes: true }, ...orders && { shown: orders.map(shownOf) } }
    } catch {
      // If only the end of the connection ends a body, a cut body looks whole until it is parsed.
      return { status: answer.status, type: 'info', error: 'not-understood' }
    }
  }
  const { error, sent, status } = ending
  if (!sent) return { type: 'fail', error: inOurWords[error] ?? error }
  if (status === undefined || error === 'timeout' || error === 'hang-up') return { type: 'info', error: inOurWords[error] ?? error }
  return { type: 'info', status, error: 'cut' }
}

function shownOf (order: OrderAnswered): Shown {
  const { id, version, status } = order
  return { id, version, status, digest: digestOf(order) }
}

const inOurWords: Readonly<Record<string, string>> = {
  UND_ERR_SOCKET: 'closed',
  UND_ERR_CONNECT_TIMEOUT: 'timeout'
}
