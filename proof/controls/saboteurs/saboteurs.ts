import { answers } from './answers.ts'
import { clocks } from './clock.ts'
import { deliveries } from './deliveries.ts'
import { pages } from './pages.ts'
import { payments } from './payments.ts'
import type { Saboteur } from './saboteur.ts'
import { statements } from './statements.ts'
import { stops } from './stops.ts'
import { streams } from './streams.ts'

export type SaboteurName = keyof typeof all

const all = { ...answers, ...pages, ...streams, ...statements, ...stops, ...clocks, ...deliveries, ...payments }

export const saboteurs: Readonly<Record<string, Saboteur>> = all
