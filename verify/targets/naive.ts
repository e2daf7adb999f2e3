import { join } from 'node:path'
import type { Target } from '../target.ts'
import plainNode from './plain-node.ts'

/**
 * A service that acknowledges before it writes and stops with process.exit: the harness finds its orders lost. It is asked,
 * understood and read as plain-node is, and only started otherwise.
 */
const naive: Target = {
  ...plainNode,
  name: 'naive',
  start (run, instance) {
    const { command: [node], ...rest } = plainNode.start(run, instance)
    return { command: [node, join(import.meta.dirname, 'naive/server.js')], ...rest }
  }
}

export default naive
