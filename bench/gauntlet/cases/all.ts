import { foreignClose, otherSignals } from './bystanders.ts'
import type { Case } from './case.ts'
import { backlog, expectContinue, halfBody, halfHead, large, linger, localhost, pipelined, slowReader } from './connections.ts'
import { crash, exitCodes, hookHang, npm, rejection, report, threadPool } from './faults.ts'
import { goneMany, goneStream } from './gone.ts'
import { background, boot, close, forms, inject, twoApps } from './handlers.ts'
import { afterHooks, begunHook } from './hooks.ts'
import { dbl, gone, hang, idle, lateSecond, load } from './load.ts'
import { h2c, h2Tls, lateWebSocket, preClose, sse, tls, webSocket } from './protocols.ts'
import { uploadFlow, uploadStall } from './uploads.ts'
import { adaptive, closeHeader, jitter, lameDuck, pressure } from './window.ts'

/** In the order of the table. */
export const allCases: readonly Case[] = [
  load, gone, goneStream, goneMany, hang, idle, dbl, lateSecond, otherSignals,
  lameDuck, adaptive, jitter, pressure, closeHeader, foreignClose,
  halfHead, halfBody, uploadStall, uploadFlow, large, slowReader, backlog, pipelined, expectContinue, linger, localhost,
  tls, h2c, h2Tls, webSocket, lateWebSocket, sse, preClose,
  forms, begunHook, afterHooks, background, inject, close, twoApps, boot,
  crash, rejection, hookHang, threadPool, report, exitCodes, npm
]
