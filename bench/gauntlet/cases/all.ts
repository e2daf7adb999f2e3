import type { Case } from './case.ts'
import { backlog, expectContinue, halfBody, halfHead, large, localhost, pipelined } from './connections.ts'
import { crash, exitCodes, hookHang, npm, rejection, report } from './faults.ts'
import { background, boot, close, forms, inject, twoApps } from './handlers.ts'
import { dbl, gone, hang, idle, lateSecond, load } from './load.ts'
import { h2c, h2Tls, sse, tls, webSocket } from './protocols.ts'
import { adaptive, closeHeader, jitter, lameDuck, pressure } from './window.ts'

/** In the order of the table. */
export const CASES: readonly Case[] = [
  load, gone, hang, idle, dbl, lateSecond,
  lameDuck, adaptive, jitter, pressure, closeHeader,
  halfHead, halfBody, large, backlog, pipelined, expectContinue, localhost,
  tls, h2c, h2Tls, webSocket, sse,
  forms, background, inject, close, twoApps, boot,
  crash, rejection, hookHang, report, exitCodes, npm
]
