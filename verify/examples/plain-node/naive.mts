import { join } from 'node:path'
import type { Target } from 'last-orders-verify/target'
import plainNode from './target.mts'

/**
 * A service that acknowledges before it writes and stops with process.exit: the harness finds its orders lost. Only its start
 * differs from plain-node; requests, answers and stored data are the same.
 */
const naive: Target = {
  ...plainNode,
  name: 'naive',
  start (run, instance) {
    const { command: [node], ...rest } = plainNode.start(run, instance)
    return { command: [node, join(import.meta.dirname, 'naive-server.mjs')], ...rest }
  }
}

export default naive
