// What test.cjs exports; see index.d.cts.
import type * as kit from '../dist/test.js' with { 'resolution-mode': 'import' }

export type Balancer = kit.Balancer
export type Counts = kit.Counts
export type Example = kit.Example
export type Exit = kit.Exit
export type Fault = kit.Fault
export type FaultKind = kit.FaultKind
export type LeftBehind = kit.LeftBehind
export type Outcome = kit.Outcome
export type StopAccount = kit.StopAccount
export type StopOptions = kit.StopOptions
export type StopRequest = kit.StopRequest
export type StopTestCode = kit.StopTestCode

export declare const expectCleanStop: typeof kit.expectCleanStop
export declare const observeStop: typeof kit.observeStop

export declare const StopTestError: typeof kit.StopTestError
export type StopTestError = kit.StopTestError
export declare const UncleanStopError: typeof kit.UncleanStopError
export type UncleanStopError = kit.UncleanStopError
