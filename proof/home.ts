import { join } from 'node:path'
import type { Home } from '../verify/home.ts'
import { controlNames, trialsOf } from './controls/controls.ts'
import { keepCaught, whenLastCaught } from './controls/last-caught.ts'
import { proveControls } from './controls/prove.ts'

/** This repository. */
export const home: Home = {
  command: 'npm run verify --',
  targetFile: join(import.meta.dirname, 'order-service.ts'),
  controlNames,
  async proveControls (options) {
    const proved = await proveControls(trialsOf(options.control), { ...options, home })
    if (options.control === 'all') await keepCaught(proved, options)
    return proved.every(({ isCaught }) => isCaught)
  },
  lastCaught: async () => await whenLastCaught()
}
